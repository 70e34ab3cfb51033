/** Flags that say how to train, and the request that they make. */
import type { ArgsDef } from 'citty';
import {
  ALPHA_PER_RANK,
  MAX_BATCH_ROWS,
  MAX_EPOCHS,
  MAX_ROW_TOKENS,
  MAX_TRAINED_RANK,
  SCORE_PROBLEMS,
  TRAINABLE,
  type Trainable,
  TRAINING_DEFAULTS,
  type TrainingMethod,
  TrainingRequest,
  TrainingSettings,
} from '../../protocol/training.ts';
import { MAX_INVOCATION_TOKENS } from '../../protocol/limits.ts';
import { didYouMean, parseCount, usageError } from '../flags.ts';
import type { TrainedWeights } from './train-adapter.ts';

const defaults = TRAINING_DEFAULTS;

export const trainingFlags = {
  method: {
    type: 'enum',
    options: ['sft', 'dpo'],
    description: 'sft: learn the answers; dpo: prefer the chosen answer to the rejected one',
    default: defaults.method,
  },
  rank: {
    type: 'string',
    description: 'Rank of the adapter',
    default: String(defaults.rank),
    valueHint: 'count',
  },
  alpha: {
    type: 'string',
    description: 'The adapter is multiplied by alpha / rank; default: twice the rank',
    valueHint: 'number',
  },
  targets: {
    type: 'string',
    description: `Linear layers to train: all, or a list of ${TRAINABLE.join(', ')}`,
    default: 'all',
    valueHint: 'list',
  },
  epochs: {
    type: 'string',
    description: 'Passes over the rows',
    default: String(defaults.epochs),
    valueHint: 'count',
  },
  'least-steps': {
    type: 'string',
    description: 'Steps at least, however few rows there are',
    default: String(defaults.least_steps),
    valueHint: 'count',
  },
  rate: {
    type: 'string',
    description: 'Largest learning rate; default: by the width of the base, 1e-5 with dpo',
    valueHint: 'number',
  },
  batch: {
    type: 'string',
    description: 'Rows of a step; default: 4 below 200 rows, otherwise 8',
    valueHint: 'count',
  },
  'max-length': {
    type: 'string',
    description: 'Leave out rows that have more tokens',
    default: String(defaults.max_length),
    valueHint: 'tokens',
  },
  val: {
    type: 'string',
    description: 'Share of the rows to hold out and score, 0 to 0.5, or a file of rows to hold out',
    default: String(defaults.validation),
    valueHint: 'share|file',
  },
  seed: {
    type: 'string',
    description: 'Seed of the start values and the order',
    default: String(defaults.seed),
    valueHint: 'number',
  },
  activated: {
    type: 'string',
    description:
      'The adapter acts from the last of these tokens in the prompt on: a text, \\n is a new line, or token ids',
    valueHint: 'text|ids',
  },
  beta: {
    type: 'string',
    description: 'With dpo: larger values keep answers closer to those before training',
    default: String(defaults.beta),
    valueHint: 'number',
  },
  'problem-type': {
    type: 'enum',
    description:
      'Of rows with a score: regression learns numbers, multi_label_classification shares of 0 to 1; default: regression',
    options: [...SCORE_PROBLEMS],
  },
} as const satisfies ArgsDef;

type NumberField = {
  [Field in keyof TrainingSettings]-?: TrainingSettings[Field] extends number ? Field : never;
}[keyof TrainingSettings];

type Args = Readonly<Record<string, unknown>>;

/** @param form what the value must be, for the error. @returns null when the flag is not given. @throws CliError (usage) */
function readNumber(args: Args, flag: string, field: NumberField, form: string): number | null {
  const text = args[flag];
  if (typeof text !== 'string') return null;
  const parsed = TrainingSettings.shape[field].safeParse(text.trim() === '' ? null : Number(text));
  if (parsed.success) return parsed.data;
  throw usageError(`--${flag} ${text} is not ${form}.`);
}

/** @returns in the order of {@link TRAINABLE}, so that the same layers are the same training. @throws CliError (usage) */
export function parseTargets(text: string): Trainable[] {
  const words = text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');
  if (words.length === 1 && words[0] === 'all') return [...TRAINABLE];
  const wanted = new Set<Trainable>();
  for (const word of words) {
    // PEFT's names are these and `_proj`.
    const target = TRAINABLE.find((one) => one === word || `${one}_proj` === word);
    if (target === undefined)
      throw usageError(
        `--targets ${text}: '${word}' is not a linear layer that can be trained. Use all, or a list of ` +
          `${TRAINABLE.join(', ')}.${didYouMean(word, TRAINABLE)}`,
      );
    wanted.add(target);
  }
  if (wanted.size === 0)
    throw usageError(`--targets names no layer. Use all, or a list of ${TRAINABLE.join(', ')}.`);
  return TRAINABLE.filter((one) => wanted.has(one));
}

/** Token ids, as a list or in JSON. */
const IDS = /^\[?\s*\d+(\s*,\s*\d+)*\s*\]?$/;

/** @returns ids, or a text that the base's tokenizer makes them of. @throws CliError (usage) */
function readActivated(args: Args): Pick<TrainingRequest, 'activated' | 'activated_by'> {
  const text = args['activated'];
  if (typeof text !== 'string') return {};
  const ids = IDS.test(text.trim());
  const found = ids
    ? { activated: text.split(',').map((id) => Number(id.replaceAll(/[[\]\s]/g, ''))) }
    : { activated_by: text.replaceAll(String.raw`\n`, '\n') };
  const parsed = TrainingRequest.pick({ activated: true, activated_by: true }).safeParse(found);
  if (parsed.success) return found;
  throw usageError(
    `--activated ${text} is neither a text nor a list of 1 to ${MAX_INVOCATION_TOKENS} token ids, such as 1,520,9531.`,
  );
}

/** Which base a training runs on, and what computes it. */
export const machineFlags = {
  base: {
    type: 'string',
    description:
      'Base to train on: a .gguf file, a Hugging Face folder or hf:<owner>/<name>; default: the default base',
    valueHint: 'base',
  },
  weights: {
    type: 'enum',
    options: ['int8', 'f32'],
    description: "Precision of the base; default: int8, or f32 if the server's weights are not rounded",
  },
  provider: {
    type: 'enum',
    options: ['auto', 'cpu', 'webgpu', 'web'],
    description: 'What computes, as with graft dev',
    default: 'auto',
  },
  threads: { type: 'string', description: 'Default: all cores', valueHint: 'count' },
} as const satisfies ArgsDef;

/** @param args of {@link machineFlags}, as citty parsed them. @throws CliError (usage) */
export const readMachineFlags = (args: {
  base?: string | undefined;
  weights?: TrainedWeights | undefined;
  provider: string;
  threads?: string | undefined;
}) => ({
  base: args.base,
  weights: args.weights ?? null,
  provider: args.provider,
  threads: args.threads === undefined ? null : parseCount(args.threads, '--threads'),
});

/** @returns the file of rows that `--val` names; null = it is a share. */
export function readValidationFile(args: Args): string | null {
  const text = String(args['val'] ?? '').trim();
  return text === '' || !Number.isNaN(Number(text)) ? null : text;
}

/** @param args of {@link trainingFlags}, as citty parsed them. @throws CliError (usage) */
export function readTrainingRequest(args: Args): TrainingRequest {
  const whole = (most: number): string => `a whole number from 1 to ${most}`;
  const needed = (flag: string, field: NumberField, form: string): number => {
    const value = readNumber(args, flag, field, form);
    if (value === null) throw usageError(`--${flag} needs a value.`);
    return value;
  };
  const method: TrainingMethod = args['method'] === 'dpo' ? 'dpo' : 'sft';
  const activated = readActivated(args);
  const problemType = SCORE_PROBLEMS.find((type) => type === args['problem-type']);
  const rank = needed('rank', 'rank', whole(MAX_TRAINED_RANK));
  return {
    method,
    rank,
    alpha: readNumber(args, 'alpha', 'alpha', 'a number above 0, at most 10000') ?? ALPHA_PER_RANK * rank,
    targets: parseTargets(String(args['targets'])),
    epochs: needed('epochs', 'epochs', `a number above 0, at most ${MAX_EPOCHS}`),
    least_steps: needed('least-steps', 'least_steps', whole(1_000_000)),
    rate: readNumber(args, 'rate', 'rate', 'a number above 0, at most 1, such as 1e-4'),
    batch: readNumber(args, 'batch', 'batch', whole(MAX_BATCH_ROWS)),
    max_length: needed('max-length', 'max_length', `a whole number from 16 to ${MAX_ROW_TOKENS}`),
    validation:
      readValidationFile(args) === null
        ? needed('val', 'validation', 'a share from 0 to 0.5, such as 0.1, or a file')
        : 0,
    seed: needed('seed', 'seed', 'a whole number from 0 to 4294967295'),
    beta: needed('beta', 'beta', 'a number above 0, at most 10'),
    ...(problemType === undefined ? {} : { problem_type: problemType }),
    ...activated,
  };
}

/** Words that a shell takes as they are. */
const PLAIN = /^[\w@%+=:,./-]+$/;

const quoted = (word: string): string =>
  PLAIN.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;

/** @returns the command again, for a message. @param flag `--resume`, `--restart`, or '' for neither. */
export function sameCommand(rawArgs: readonly string[], flag: '' | '--resume' | '--restart'): string {
  const words = rawArgs.filter((word) => word !== '--resume' && word !== '--restart');
  return ['graft train', ...words.map(quoted), ...(flag === '' ? [] : [flag])].join(' ');
}
