import { nameProblem } from '../../protocol/identity.ts';
import type { TrainingCard } from '../../protocol/training.ts';
import { checkOutput } from '../adapter-files/write-output.ts';
import { adminClient } from '../admin/admin-client.ts';
import { interruptible } from '../cli-error.ts';
import { command } from '../command.ts';
import { usageError } from '../flags.ts';
import { originProgram } from '../local/origin-process.ts';
import { trainingText } from '../publish/training-card.ts';
import { drawLossCurve } from '../train/loss-curve.ts';
import { trainAdapter, type Trained, type TrainWish } from '../train/train-adapter.ts';
import {
  machineFlags,
  readMachineFlags,
  readTrainingRequest,
  readValidationFile,
  sameCommand,
  trainingFlags,
} from '../train/training-flags.ts';
import { publishedText } from './publish.ts';

export const trainCommand = command({
  verb: 'train',
  examples: [
    {
      line: 'graft train rows.jsonl --name alice/notes',
      does: 'trains on the base, and stages the result as a version of alice/notes',
    },
    {
      line: 'graft train rows.jsonl --name medicine/trials --parent medicine',
      does: 'on top of the live version of medicine',
    },
    {
      line: 'graft train rows.jsonl --name alice/notes --continue',
      does: 'on top of the live version of alice/notes, as its next version',
    },
    {
      line: 'graft train rows.csv --out notes --rank 16 --targets q,v --epochs 5',
      does: 'writes a PEFT folder, and publishes nothing',
    },
  ],
  args: {
    rows: {
      type: 'positional',
      description: "File of rows: OpenAI's chat format, prompt and completion, or CSV",
      valueHint: 'rows.jsonl',
      required: true,
    },
    name: {
      type: 'string',
      description: 'Name to stage the result under, such as alice/notes',
      valueHint: 'name',
    },
    parent: {
      type: 'string',
      description: 'Name to train on top of: its live version; default: the base',
      valueHint: 'name',
    },
    continue: {
      type: 'boolean',
      description: 'Train on top of the live version of --name; the result contains it and takes its place',
    },
    out: {
      type: 'string',
      alias: 'o',
      description: 'Write a PEFT folder instead of publishing',
      valueHint: 'path',
    },
    force: { type: 'boolean', description: 'With --out: overwrite existing files' },
    ...trainingFlags,
    resume: { type: 'boolean', description: 'Continue from the checkpoint of an earlier run' },
    restart: { type: 'boolean', description: 'Start over, without the checkpoint of an earlier run' },
    'made-from-prompts': {
      type: 'boolean',
      description: 'With --continue: those who were granted the name may use what was made from prompts',
    },
    why: { type: 'string', description: 'Reason, recorded in the history', valueHint: 'text' },
    ...machineFlags,
  },
  async run({ args, rawArgs, output }) {
    const wish: TrainWish = {
      rows: args.rows,
      validation: readValidationFile(args),
      name: args.name ?? null,
      parent: args.parent ?? null,
      out: args.out ?? null,
      request: { ...readTrainingRequest(args), ...(args.continue === true ? { continues: true } : {}) },
      ...readMachineFlags(args),
      start: args.resume === true ? 'resume' : args.restart === true ? 'restart' : 'new',
      why: args.why ?? null,
      madeFromPrompts: args['made-from-prompts'] === true,
    };
    checkWish(wish);
    if (args.resume === true && args.restart === true)
      throw usageError('Give either --resume or --restart, not both.');
    if (args.force === true && wish.out === null) throw usageError('--force needs --out <path>.');
    const program = originProgram('train');
    if (wish.out !== null) await checkOutput(wish.out, 'folder', args.force === true);
    const client = wish.out === null || wish.parent !== null ? await adminClient() : null;
    const trained = await interruptible((signal) =>
      trainAdapter({
        wish,
        ...{ client, output, signal, program, env: process.env },
        again: (flag) => sameCommand(rawArgs, flag),
      }),
    );
    output.result(trainedJson(wish, trained), () => trainedText(wish, trained, output.terminal));
  },
});

/** @throws CliError (usage) */
export function checkWish({ name, parent, out, request }: TrainWish): void {
  if (request.continues === true && (name === null || parent !== null || out !== null))
    throw usageError(
      '--continue needs --name <name>, without --parent and --out: it stages the next version.',
    );
  if (name === null && out === null)
    throw usageError('Give --name <name> to publish the result, or --out <path> to write a folder.');
  for (const [flag, given] of [
    ['--name', name],
    ['--parent', parent],
  ] as const) {
    const problem = given === null ? null : nameProblem(given);
    if (problem !== null) throw usageError(`${flag} ${given}: ${problem}.`);
  }
}

export function trainedJson(
  wish: TrainWish,
  { card, published }: Trained,
): Record<string, unknown> & { training: TrainingCard } {
  if (published === null) return { out: wish.out, training: card };
  const { version, created, sent } = published;
  return { ...version, created, sent_bytes: sent, training: card };
}

/** @param terminal draws the curve. */
export function trainedText(wish: TrainWish, { card, published }: Trained, terminal: boolean): string {
  const picture = terminal ? drawLossCurve(card.curve) : [];
  if (published === null) {
    const parent = wish.parent === null ? '' : ` --parent ${wish.parent}`;
    const publish = `graft publish ${wish.out} --name ${wish.name ?? '<name>'}${parent} --stage`;
    return [...picture, `wrote ${wish.out}`, trainingText(card), `publish it: ${publish}`].join('\n');
  }
  const { version } = published;
  const what = `${version.name}@${version.version}`;
  const classes = version.chain.at(-1)?.classes;
  const trial =
    classes === undefined
      ? `graft run ${what} "…"`
      : classes === 1
        ? `POST /v1/rerank {"model": "${what}", "query": "…", "documents": ["…", "…"]}`
        : `POST /v1/classify {"model": "${what}", "input": "…"}`;
  const next = version.live ? [] : [`try it:       ${trial}`, `make it live: graft promote ${what}`];
  return [...picture, publishedText(published), ...next].join('\n');
}
