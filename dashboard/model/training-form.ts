/** The form that starts a training, and its request. */
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { JobRequest } from '../../protocol/fine-tuning.ts';
import { nameProblem } from '../../protocol/identity.ts';
import { TRAINING_DEFAULTS } from '../../protocol/training.ts';

/** Settings as typed; empty = chosen by the training program. */
export interface TrainingFields {
  /** `base`, a base's id, a name, or `name@version`. */
  readonly parent: string;
  /** Whole name of the result. */
  readonly name: string;
  readonly method: 'supervised' | 'dpo';
  readonly epochs: string;
  /** `epochs` = adapters of the last epochs before the end are staged, too. */
  readonly checkpoints: 'none' | 'epochs';
  readonly rank: string;
  readonly factor: string;
  readonly batch: string;
  readonly leastSteps: string;
  /** Percent. */
  readonly heldOut: string;
  readonly maxLength: string;
  readonly seed: string;
  /** Of `dpo`. */
  readonly beta: string;
}

export const BASE = 'base';

export const DEFAULT_TRAINING: TrainingFields = {
  parent: BASE,
  name: '',
  method: 'supervised',
  epochs: String(TRAINING_DEFAULTS.epochs),
  checkpoints: 'none',
  rank: String(TRAINING_DEFAULTS.rank),
  factor: '1',
  batch: '',
  leastSteps: String(TRAINING_DEFAULTS.least_steps),
  heldOut: String(100 * TRAINING_DEFAULTS.validation),
  maxLength: String(TRAINING_DEFAULTS.max_length),
  seed: String(TRAINING_DEFAULTS.seed),
  beta: String(TRAINING_DEFAULTS.beta),
};

/** Field -> error; `file`: of the rows. */
export type TrainingProblems = Partial<Record<keyof TrainingFields | 'file', string>>;

/** The settings that stand behind a fold. */
export const FOLDED = [
  ...(['factor', 'batch', 'leastSteps', 'heldOut', 'maxLength', 'seed', 'beta', 'checkpoints'] as const),
];

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** A decimal comma is one too. @returns NaN for what is no number. */
const numberOf = (text: string): number =>
  text.trim() === '' ? Number.NaN : Number(text.replace(',', '.').trim());

/** @param file id of the sent rows. @returns the request, or what is wrong with which field. */
export function jobRequest(fields: TrainingFields, file: string): Result<JobRequest, TrainingProblems> {
  const problems: TrainingProblems = {};
  const name = fields.name.trim();
  const parent = fields.parent.trim() === '' ? BASE : fields.parent.trim();
  const wrongName = name === '' ? 'a name is missing' : nameProblem(name);
  if (wrongName !== null) problems.name = sentence(wrongName);
  const [of = '', version, ...more] = parent.split('@');
  if (
    parent !== BASE &&
    (nameProblem(of) !== null || more.length > 0 || !/^[1-9]\d{0,8}$/.test(version ?? '1'))
  )
    problems.parent = 'The base, a name, or a version such as team/name@2.';
  const hyperparameters = {
    n_epochs: numberOf(fields.epochs),
    batch_size: fields.batch.trim() === '' ? ('auto' as const) : numberOf(fields.batch),
    // The usual rate and a factor of 1 are the same; only the first is left to the program.
    learning_rate_multiplier: numberOf(fields.factor) === 1 ? ('auto' as const) : numberOf(fields.factor),
  };
  const request = {
    model: parent,
    training_file: file,
    seed: numberOf(fields.seed),
    method:
      fields.method === 'dpo'
        ? {
            type: 'dpo' as const,
            dpo: { hyperparameters: { ...hyperparameters, beta: numberOf(fields.beta) } },
          }
        : { type: 'supervised' as const, supervised: { hyperparameters } },
    graft: {
      name,
      rank: numberOf(fields.rank),
      least_steps: numberOf(fields.leastSteps),
      max_length: numberOf(fields.maxLength),
      validation: numberOf(fields.heldOut) / 100,
      ...(fields.checkpoints === 'epochs' ? { checkpoints: true } : {}),
    },
  };
  const parsed = JobRequest.safeParse(request);
  if (!parsed.success)
    for (const { path } of parsed.error.issues) problems[fieldAt(path)] ??= WANTED[fieldAt(path)];
  return Object.keys(problems).length > 0 ? err(problems) : ok(request);
}

/** What a field takes, for those that are numbers. */
const WANTED: Readonly<Record<keyof TrainingProblems, string>> = {
  parent: 'The base, a name, or a version such as team/name@2.',
  name: 'A name such as team/notes.',
  file: 'Choose a file of rows.',
  method: 'Answers or preferences.',
  epochs: 'A whole number from 1 to 100.',
  checkpoints: 'The result alone, or earlier epochs too.',
  rank: 'A whole number from 1 to 256.',
  factor: 'A number above 0, up to 1,000.',
  batch: 'A whole number from 1 to 256, or nothing.',
  leastSteps: 'A whole number from 1 to 1,000,000.',
  heldOut: 'A number from 0 to 50.',
  maxLength: 'A whole number from 16 to 4,096.',
  seed: 'A whole number from 0 to 4,294,967,295.',
  beta: 'A number above 0, up to 10.',
};

const FIELD_OF: Readonly<Record<string, keyof TrainingProblems>> = {
  model: 'parent',
  training_file: 'file',
  suffix: 'name',
  name: 'name',
  rank: 'rank',
  n_epochs: 'epochs',
  checkpoints: 'checkpoints',
  batch_size: 'batch',
  learning_rate_multiplier: 'factor',
  least_steps: 'leastSteps',
  validation: 'heldOut',
  max_length: 'maxLength',
  seed: 'seed',
  beta: 'beta',
};

/** The form's field of a path in the request; also for the edge's `param`. */
export function fieldAt(path: readonly PropertyKey[]): keyof TrainingProblems {
  const last = path.map(String).findLast((part) => part in FIELD_OF);
  return FIELD_OF[last ?? ''] ?? 'name';
}

/** What an address prefills: any of the fields, by their names. @param query of the address. */
export function prefilled(query: string): TrainingFields {
  const given = new URLSearchParams(query);
  const fields = Object.fromEntries(
    Object.entries(DEFAULT_TRAINING).map(([field, usual]) => [field, given.get(field) ?? (usual as string)]),
  ) as unknown as TrainingFields;
  return {
    ...fields,
    method: fields.method === 'dpo' ? 'dpo' : 'supervised',
    checkpoints: fields.checkpoints === 'epochs' ? 'epochs' : 'none',
  };
}
