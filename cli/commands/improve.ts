/** `graft improve`: once, or every few days. */
import { setTimeout as delay } from 'node:timers/promises';
import { ExperimentView } from '../../protocol/admin-api/experiments.ts';
import { nameProblem } from '../../protocol/identity.ts';
import { checkOutput } from '../adapter-files/write-output.ts';
import { adminClient } from '../admin/admin-client.ts';
import { askYes } from '../ask-at-terminal.ts';
import { CliError, EXIT, interruptible } from '../cli-error.ts';
import { command } from '../command.ts';
import { needUrl, readConnection } from '../connection.ts';
import { experimentArgs } from '../experiment/experiment-flags.ts';
import { parseDuration, usageError } from '../flags.ts';
import { mayTrain, rememberConsent } from '../improve/consent.ts';
import {
  checkEnough,
  improve,
  type Improved,
  type ImproveParams,
  type ImproveWish,
  LEAST_ROWS,
  type Prepared,
  prepare,
} from '../improve/improve-name.ts';
import { rowsFile } from '../improve/rows-text.ts';
import { originProgram } from '../local/origin-process.ts';
import { writePrivateFile } from '../local/private-files.ts';
import { when, type Output } from '../output.ts';
import {
  machineFlags,
  readMachineFlags,
  readTrainingRequest,
  readValidationFile,
  trainingFlags,
} from '../train/training-flags.ts';
import { runAction } from './experiment.ts';
import { publishedText } from './publish.ts';

/** Shorter than that, nothing new has been decided. */
const LEAST_EVERY_MS = 60_000;
/** Node's timers take no longer. */
const MOST_EVERY_MS = 24 * 86_400_000;

const { metric, guardrail, ramp, 'min-units': minUnits, 'min-days': minDays, coverage } = experimentArgs;
const { judge, 'keep-pairs': keepPairs, 'expect-units': expectUnits } = experimentArgs;

export const improveCommand = command({
  verb: 'improve',
  examples: [
    {
      line: 'graft improve support/intent',
      does: 'shows the rows, asks, trains the next version, and drafts its experiment',
    },
    {
      line: 'graft improve support/intent --method dpo --yes --start',
      does: 'learns from both answers of each pair, asks nothing, and starts the experiment',
    },
    { line: 'graft improve support/intent --out rows.jsonl', does: 'writes the rows, and trains nothing' },
    {
      line: 'graft improve support/intent --every 7d',
      does: 'each week; trains only if --yes was given for the name, and asks otherwise',
    },
  ],
  args: {
    name: { type: 'positional', description: 'Name with a live version', valueHint: 'name', required: true },
    yes: {
      type: 'boolean',
      description: 'Train without asking, now and later: it is remembered for the name',
    },
    ask: { type: 'boolean', description: 'Ask again before training: forgets an earlier --yes' },
    out: {
      type: 'string',
      alias: 'o',
      description: 'Write the rows to a file, and train nothing',
      valueHint: 'path',
    },
    force: { type: 'boolean', description: 'With --out: overwrite an existing file' },
    every: {
      type: 'string',
      description: 'Stay, and do it again after this time, such as 7d',
      valueHint: 'time',
    },
    'made-from-prompts': {
      type: 'boolean',
      description: 'Those who were granted the name may use the result, without a question',
    },
    start: { type: 'boolean', description: 'Start the experiment instead of leaving a draft' },
    metric,
    guardrail,
    ramp,
    'min-units': minUnits,
    'min-days': minDays,
    coverage,
    judge,
    'keep-pairs': keepPairs,
    'expect-units': expectUnits,
    ...trainingFlags,
    why: { type: 'string', description: 'Reason, recorded in the history', valueHint: 'text' },
    ...machineFlags,
  },
  async run({ args, rawArgs, output }) {
    const { name } = args;
    const problem = nameProblem(name);
    if (problem !== null) throw usageError(`${name}: ${problem}.`);
    if (args.yes === true && args.ask === true) throw usageError('Give either --yes or --ask, not both.');
    const every = args.every === undefined ? null : parseEvery(args.every);
    if (every !== null && args.out !== undefined) throw usageError('--out writes once. Remove --every.');
    if (args.force === true && args.out === undefined) throw usageError('--force needs --out <path>.');
    if (args.out !== undefined) await checkOutput(args.out, 'file', args.force === true);
    const wish: ImproveWish = {
      name,
      out: args.out ?? null,
      madeFromPrompts: args['made-from-prompts'] === true,
      request: readTrainingRequest(args),
      validation: readValidationFile(args),
      ...readMachineFlags(args),
      why: args.why ?? null,
    };
    const program = originProgram('train');
    const client = await adminClient();
    const server = needUrl(await readConnection({ env: process.env, folder: process.cwd() }));
    if (args.yes === true || args.ask === true)
      await rememberConsent(process.env, { server, name, yes: args.yes === true });
    const { env } = process;
    const params: Omit<ImproveParams, 'signal'> = {
      ...{ wish, client, output, program, env },
      again: ['graft improve', ...rawArgs].join(' '),
      confirm: async (question) => {
        if (await mayTrain(env, { server, name })) return true;
        return askOrRefuse(question, 'Add --yes to train, or --out <file> to write the rows.');
      },
      confirmHolders: (question) => askOrRefuse(question, 'Add --made-from-prompts to do it.'),
      async propose(version) {
        let view: ExperimentView | null = null;
        let text = '';
        const heard: Output = {
          ...output,
          result(value, said) {
            view = ExperimentView.parse(value);
            text = said();
          },
        };
        const flags = {
          ...{ rawArgs, name, which: `@${version.version}`, start: args.start, why: args.why },
          ...{ ramp: args.ramp, minUnits: args['min-units'], minDays: args['min-days'] },
          ...{ coverage: args.coverage, judge: args.judge, keepPairs: args['keep-pairs'] },
          expectUnits: args['expect-units'],
        };
        await runAction('create', flags, { output: heard, connect: async () => client, ask: askYes });
        if (view === null) throw new Error('no experiment was created');
        return { view, text };
      },
    };
    await interruptible((signal) =>
      every === null ? once({ ...params, signal }) : again({ ...params, signal }, every),
    );
  },
});

/** @throws CliError `not_confirmed` without a terminal. */
async function askOrRefuse(question: string, remedy: string): Promise<boolean> {
  const answer = await askYes(question);
  if (answer !== null) return answer;
  throw new CliError({
    message: `${question}\nNo terminal to confirm at. ${remedy}`,
    exitCode: EXIT.refused,
    code: 'not_confirmed',
  });
}

/** @returns ms. @throws CliError (usage) */
function parseEvery(text: string): number {
  const ms = parseDuration(text, '--every');
  if (ms >= LEAST_EVERY_MS && ms <= MOST_EVERY_MS) return ms;
  throw usageError(`--every ${text} is not from 1m to 24d.`);
}

async function once(params: ImproveParams): Promise<void> {
  const { wish, output } = params;
  const prepared = await prepare(params);
  if (wish.out !== null) {
    const { out } = wish;
    await writePrivateFile(out, rowsFile(prepared.rows));
    const { rows, left_out } = prepared.rows;
    output.result(
      { out, rows: rows.length, new_rows: prepared.fresh, left_out },
      () => `wrote ${out}, ${rows.length} rows`,
    );
    return;
  }
  checkEnough(prepared);
  tell(output, await improve(params, prepared), prepared);
}

function tell(output: Output, improved: Improved | null, { rows, fresh }: Prepared): void {
  if (improved === null) return output.note('nothing was trained');
  const { trained, experiment, text } = improved;
  const { card, published } = trained;
  output.result(
    {
      ...published?.version,
      training: card,
      rows: rows.rows.length,
      new_rows: fresh,
      left_out: rows.left_out,
      experiment,
    },
    () => [...(published === null ? [] : [publishedText(published)]), '', text].join('\n'),
  );
}

/** Until it is interrupted. What keeps one round from training is noted, and the next one tries again. */
async function again(params: ImproveParams, every: number): Promise<void> {
  const { output, signal } = params;
  for (;;) {
    try {
      const prepared = await prepare(params);
      if (prepared.fresh < LEAST_ROWS)
        output.note(`${prepared.fresh} new rows, at least ${LEAST_ROWS} are needed`);
      else tell(output, await improve(params, prepared), prepared);
    } catch (error) {
      if (
        !(error instanceof CliError) ||
        (error.exitCode !== EXIT.refused && error.exitCode !== EXIT.unavailable)
      )
        throw error;
      output.note(error.message);
    }
    output.note(`again at ${when(Date.now() + every)}`);
    // Ctrl-C ends it here.
    await delay(every, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}
