import { setTimeout as delay } from 'node:timers/promises';
import { defineCommand } from 'citty';
import type { ExperimentView } from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import type { ApiClient } from '../api-client.ts';
import { callOperation } from '../call-operation.ts';
import type { CommandHelp } from '../command-types.ts';
import { changeExperiment } from '../experiment/change-experiment.ts';
import { checkDesign, checkDocument } from '../experiment/check-design.ts';
import { checkVersions, createExperiment } from '../experiment/create-experiment.ts';
import { actionOf, DESIGN_FLAGS, experimentArgs, type Action } from '../experiment/experiment-flags.ts';
import { experimentTable } from '../experiment/experiment-table.ts';
import { nextCommand, nowText } from '../experiment/experiment-words.ts';
import { findExperiment, listExperiments } from '../experiment/find-experiment.ts';
import { glyphsFor } from '../experiment/glyphs.ts';
import { keptPairsText } from '../experiment/kept-pairs-text.ts';
import { pinJudge } from '../experiment/parse-judge.ts';
import { parseDesign, type DesignFlags } from '../experiment/parse-design.ts';
import { planText } from '../experiment/plan-text.ts';
import { readDesignFile } from '../experiment/read-design-file.ts';
import { isFlagGiven, repeatedFlag } from '../experiment/repeated-flag.ts';
import { statusText, type Screen } from '../experiment/status-text.ts';
import { stepRequest, type Step } from '../experiment/step-request.ts';
import { watchStatus } from '../experiment/watch-status.ts';
import { usageError } from '../flags.ts';
import { harmless, harmlessJson } from '../harmless-text.ts';
import { interruptible } from '../interruptible.ts';
import { createOutput, type Output } from '../output.ts';

/** Of a pipe, and of terminals that do not say. */
const DEFAULT_WIDTH = 80;

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft experiment create support/intent --variant control=@3 --variant treatment=@4 --metric thumbs:proportion:up --ramp 1%,5%,25%,100%',
      does: 'a draft: half of the units get version 3, half version 4, once it is started',
    },
    { line: 'graft experiment start support/intent', does: 'goes live with the first step of its ramp' },
    { line: 'graft experiment status support/intent --watch', does: 'how it goes, again every 5 seconds' },
    { line: 'graft experiment', does: 'all that are not archived' },
    {
      line: 'graft experiment kill support/intent',
      does: 'everybody gets the live version; --undo takes it back',
    },
    { line: 'graft experiment promote support/intent', does: 'the proposed winner becomes the live version' },
    {
      line: 'graft experiment create support/intent --variant control=@3 --variant treatment=@4 --judge medicine',
      does: 'version 4 answers beside, nobody gets its answers, and medicine says which are better',
    },
    {
      line: 'graft experiment show support/intent > experiment.json',
      does: 'the document, to be edited',
    },
    {
      line: 'graft experiment change support/intent --file experiment.json --dry-run',
      does: 'whether the edited document would be accepted',
    },
  ],
  notes: [
    'An experiment is attached to a name; applications go on asking for the name. It is called by its name, or by its id, which it keeps when the name has another one. `create` makes a draft, `start` puts it live, `ramp` goes to the next step at once, `stop` ends it without a winner, `promote` ends it with one, `archive` frees the name. The server looks at what is live each minute, takes a ramp’s next step and rolls back by itself, and only proposes a winner; `evaluate` has it look now, and do what follows.',
    'A limit of a guardrail in percent is a share of control’s value: with `+50%` an error rate of 2 % may become 3 %; `+0.02` is in the metric’s own unit, so that it may become 4 %. Shares are `5%` or `0.05`. What flags cannot say (namespace, holdout, targeting by header) is said in a file. docs/experiments.md says what is computed and what may change while an experiment is live.',
    '`--judge` compares control’s answers with the shadow’s, the last variant’s unless `--shadow` names one, for a fifth of the requests unless it says another share. No `user` and no feedback is needed. A model is asked in both orders; where these disagree it is a tie. A URL is called with prompt and answers and answers `{"choice": "a"}`, `"b"` or `"tie"`; `secret` prints what it checks the signature with. `pairs` prints those that `--keep-pairs` kept, to the tenant that owns the name alone.',
    '`status` shows intervals that hold at every look. While the sample ratio alarms there are none. They are drawn with lines where the locale is UTF-8, and in ASCII with `NO_COLOR` or elsewhere.',
  ],
};

export default defineCommand({
  meta: { name: 'experiment', description: 'Run A/B tests: create, start, watch, promote' },
  args: experimentArgs,
  async run({ args, rawArgs }) {
    const action = actionOf(args);
    const output = createOutput({ json: args.json === true });
    const flags: Flags = {
      ...{ ...args, rawArgs, dryRun: args['dry-run'] === true, minUnits: args['min-units'] },
      shadowCompare: args['shadow-compare'] === true,
      ...{ judgeTokens: args['judge-tokens'], keepPairs: args['keep-pairs'] },
    };
    await runAction(action, flags, { output, connect: adminClient });
  },
});

/** Flags as citty parsed them, and as they were typed; those that may be repeated are read from `rawArgs`. */
export interface Flags extends Omit<
  DesignFlags,
  'name' | 'variants' | 'metrics' | 'guardrails' | 'tenants' | 'overrides'
> {
  readonly rawArgs: readonly string[];
  readonly name?: string | undefined;
  readonly winner?: string | undefined;
  readonly file?: string | undefined;
  readonly why?: string | undefined;
  readonly expect?: string | undefined;
  readonly undo?: boolean | undefined;
  readonly all?: boolean | undefined;
  readonly watch?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
}

/** @param connect is called once the flags are known to be right. */
export async function runAction(
  action: Action,
  flags: Flags,
  { output, connect }: { output: Output; connect: () => Promise<ApiClient> },
): Promise<void> {
  const { name = '' } = flags;
  switch (action) {
    case 'create':
      return create(flags, output, connect);
    case 'change':
      return change(flags, output, connect);
    case 'list':
      return list(await connect(), output, flags.all === true);
    case 'show': {
      const view = await findExperiment(await connect(), name);
      return output.result(view, () => harmlessJson(view.document, 2));
    }
    case 'status':
      if (flags.watch === true && output.json) throw usageError('--watch shows text; leave --json out.');
      if (flags.watch === true && name === '') throw usageError('Watch which one? Give its name.');
      if (name !== '' && flags.all === true) throw usageError('--all is for the list; leave the name out.');
      if (name === '') return list(await connect(), output, flags.all === true);
      return flags.watch === true
        ? watch(await connect(), name)
        : showStatus(await findExperiment(await connect(), name), output);
    case 'evaluate': {
      const client = await connect();
      const { id } = await findExperiment(client, name);
      const route = 'POST /admin/experiments/:id/evaluate';
      return showStatus(await callOperation(client, `evaluate ${name}`, route, { params: { id } }), output);
    }
    case 'pairs': {
      const client = await connect();
      const { id } = await findExperiment(client, name);
      const route = 'GET /admin/experiments/:id/pairs';
      const { pairs } = await callOperation(client, `read the pairs of ${name}`, route, { params: { id } });
      return output.result(pairs, () => keptPairsText(pairs));
    }
    case 'secret': {
      const client = await connect();
      const { id } = await findExperiment(client, name);
      const route = 'GET /admin/experiments/:id/judge-secret';
      const call = { params: { id } };
      const answer = await callOperation(client, `read the secret of ${name}’s judge`, route, call);
      return output.result(answer, () => answer.secret);
    }
    default:
      return step(action, flags, output, connect);
  }
}

async function list(client: ApiClient, output: Output, all: boolean): Promise<void> {
  const found = await listExperiments(client);
  const shown = all ? found : found.filter(({ document }) => document.status !== 'archived');
  output.result(shown, () => experimentTable(shown));
  const hidden = found.length - shown.length;
  if (hidden > 0) output.note(`${hidden} more archived: graft experiment list --all`);
}

/** What the flags or the file say. @throws CliError (usage) */
async function designOf(flags: Flags): Promise<ReturnType<typeof checkDesign>> {
  const { name, file, rawArgs, why } = flags;
  const all = (flag: string): string[] => repeatedFlag(rawArgs, flag);
  let design: Record<string, unknown>;
  if (file !== undefined) {
    const stray = DESIGN_FLAGS.find((flag) => isFlagGiven(rawArgs, flag));
    if (stray !== undefined) throw usageError(`Say it in ${file}, or with --${stray} and no file.`);
    design = await readDesignFile(file);
    if (name !== undefined && design['name'] !== undefined && design['name'] !== name)
      throw usageError(`${file} is for '${String(design['name'])}', not for '${name}'.`);
    if (name !== undefined) design = { ...design, name };
  } else {
    const lists = {
      variants: all('variant'),
      metrics: all('metric'),
      guardrails: all('guardrail'),
      tenants: all('tenant'),
      overrides: all('override'),
    };
    design = { ...parseDesign({ ...flags, ...lists, name: name ?? '' }) };
  }
  return checkDesign(why === undefined ? design : { ...design, why });
}

async function create(flags: Flags, output: Output, connect: () => Promise<ApiClient>): Promise<void> {
  const asked = await designOf(flags);
  const client = await connect();
  const design = await pinJudge(client, asked, flags.judge);
  if (flags.dryRun === true) {
    await checkVersions(client, design);
    output.result({ ...design, dry_run: true }, () => `dry run: this would be a draft\n${planText(design)}`);
    return;
  }
  const view = await createExperiment(client, design);
  output.result(view, () => `${planText(view.document)}\n\n${nowText(view)}`);
  noteNext(view, output);
}

async function change(flags: Flags, output: Output, connect: () => Promise<ApiClient>): Promise<void> {
  const { file, name, why, dryRun = false } = flags;
  if (file === undefined)
    throw usageError('Change it to what? `graft experiment show` prints it; give it back with --file.');
  const document = checkDocument(await readDesignFile(file));
  const client = await connect();
  const { id } = await findExperiment(client, name ?? document.name);
  const view = await changeExperiment(client, { id, document, why, dryRun });
  output.result({ ...view, ...(dryRun ? { dry_run: true } : {}) }, () =>
    dryRun ? `dry run: document ${view.document.version} would be accepted` : nowText(view),
  );
  if (!dryRun) noteNext(view, output);
}

async function step(
  action: Step,
  flags: Flags,
  output: Output,
  connect: () => Promise<ApiClient>,
): Promise<void> {
  const { name = '', winner } = flags;
  const body = stepRequest(action, { ...flags, variant: winner });
  const client = await connect();
  const { id } = await findExperiment(client, name);
  const route = `POST /admin/experiments/:id/${action}` as const;
  const view = await callOperation(client, `${action} ${name}`, route, { params: { id }, body });
  output.result(view, () => nowText(view));
  noteNext(view, output);
}

function noteNext(view: ExperimentView, output: Output): void {
  const next = nextCommand(view);
  if (next !== null) output.note(`next: ${next}`);
}

const screen = (): Screen => ({
  width: process.stdout.columns ?? DEFAULT_WIDTH,
  glyphs: glyphsFor(process.env),
});

function showStatus(view: ExperimentView, output: Output): void {
  output.result(view, () => statusText(view, screen()));
}

const watch = (client: ApiClient, name: string): Promise<void> =>
  interruptible((signal) =>
    watchStatus({
      look: async () => harmless(statusText(await findExperiment(client, name), screen()), { colours: true }),
      screen: process.stdout,
      signal,
      sleep: (ms) => delay(ms, undefined, { signal }).catch(() => undefined),
    }),
  );
