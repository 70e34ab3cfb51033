import type { JobView } from '../../protocol/fine-tuning.ts';
import type { TrainingCard } from '../../protocol/training.ts';

/** As `graft train` writes it. */
export const trainingCard = (more: Partial<TrainingCard> = {}): TrainingCard => ({
  rows: { sha256: 'ab'.repeat(32), trained: 60, held_out: 40, left_out: 1 },
  base: { id: 'tiny', digest: 'b'.repeat(64), weights: 'int8' },
  chain: [{ digest: 'c'.repeat(64), scale: 1 }],
  settings: {
    method: 'sft',
    rank: 8,
    alpha: 16,
    targets: ['q', 'v'],
    epochs: 3,
    least_steps: 60,
    rate: 0.0002,
    batch: 2,
    max_length: 512,
    validation: 0.4,
    seed: 7,
    beta: 0.1,
  },
  steps: 90,
  tokens: 1_234,
  curve: [
    [1, 2.3142, null],
    [45, 0.4, 0.5],
    [90, 0.0421, 0.09],
  ],
  scores: { loss_before: 2.4, loss: 0.09, exact: 38, rows: 40 },
  seconds: 61.5,
  finished_at: 1_790_000_000_000,
  ...more,
});

const hyperparameters = { n_epochs: 3, batch_size: 'auto', learning_rate_multiplier: 2 } as const;

/** A job that waits, as the edge shows it. */
export const sampleJob = (more: Partial<JobView> = {}): JobView => ({
  id: `ftjob-${'0'.repeat(24)}`,
  object: 'fine_tuning.job',
  created_at: 100,
  started_at: null,
  finished_at: null,
  estimated_finish: null,
  status: 'queued',
  error: null,
  model: 'team',
  fine_tuned_model: null,
  user_provided_suffix: null,
  organization_id: 't',
  training_file: `file-${'0'.repeat(24)}`,
  validation_file: null,
  result_files: [],
  trained_tokens: null,
  seed: 7,
  hyperparameters,
  method: { type: 'dpo', dpo: { hyperparameters: { ...hyperparameters, beta: 'auto' } } },
  integrations: null,
  metadata: null,
  graft: { name: 'team/notes', parent: 'team@2', base: 'tiny', rank: 4, checkpoints: false },
  ...more,
});

/** A point whose JSON is as long as a point's can be. */
const LONGEST = [Number.MAX_SAFE_INTEGER, -Number.MAX_VALUE, -Number.MAX_VALUE] as const;

/** Cards that are refused, by what is wrong with them. */
export const BAD_CARDS: [string, object][] = [
  ['a point too many', { curve: Array.from({ length: 257 }, (_, i) => [i, 1, null]) }],
  ['more bytes than a card may have', { curve: Array.from({ length: 256 }, () => [...LONGEST]) }],
  ['text in the curve', { curve: [[1, '2.3', null]] }],
  ['a loss that is not finite', { curve: [[1, null, null]] }],
  ['a field that is not known', { notes: 'x'.repeat(1_000) }],
  ['a field that is not known among the settings', { settings: { ...trainingCard().settings, prompt: 'x' } }],
  ['a digest in upper case', { rows: { ...trainingCard().rows, sha256: 'AB'.repeat(32) } }],
  ['a long id of the base', { base: { ...trainingCard().base, id: 'x'.repeat(129) } }],
  ['a chain that is too long', { chain: Array.from({ length: 17 }, () => trainingCard().chain[0]) }],
  ['no steps', { steps: 0 }],
];
