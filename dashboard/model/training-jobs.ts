/** Fine-tuning jobs as text, and the story of one as its curve. */
import type { JobEventView, JobStatus, JobView } from '../../protocol/fine-tuning.ts';
import type { Problem } from './problem.ts';
import type { LossColumns } from './training-card.ts';
import { lasting } from './words.ts';

/** As the style sheet colours it, beside the words. */
export const STATUS_WORDS: Readonly<Record<JobStatus, readonly [words: string, state: string]>> = {
  queued: ['waiting', 'draft'],
  running: ['running', 'running'],
  paused: ['paused', 'draft'],
  succeeded: ['done', 'live'],
  failed: ['failed', 'lost'],
  cancelled: ['cancelled', ''],
};

export const hasEnded = ({ finished_at: at }: Pick<JobView, 'finished_at'>): boolean => at !== null;

const RANKS: Readonly<Record<JobStatus, number>> = {
  ...{ running: 0, queued: 1, paused: 2 },
  ...{ succeeded: 3, failed: 3, cancelled: 3 },
};

/** Running ones first, then what waits and what is paused; within each, newest first. */
export const inOrder = (jobs: readonly JobView[]): JobView[] =>
  jobs.toSorted((a, b) => RANKS[a.status] - RANKS[b.status] || b.created_at - a.created_at);

/** @returns what it trains on, such as `medicine@2`. */
export const trainsOn = ({ graft }: JobView): string => graft.parent ?? graft.base;

/** @param now unix ms. @returns such as `about 3 min left`; null = not known. */
export function timeLeft({ status, estimated_finish: at }: JobView, now: number): string | null {
  if (status !== 'running' || at === null) return null;
  const ms = 1_000 * at - now;
  return ms <= 0 ? 'about to end' : `about ${lasting(ms)} left`;
}

/** What its owner can do about a job that failed, by its error's code; null = its message says it all. */
export function failureAdvice({ error }: JobView): string | null {
  return error === null ? null : (ADVICE[error.code] ?? null);
}

const ADVICE: Readonly<Record<string, string>> = {
  rows_invalid: 'Correct these rows, and train again.',
  no_rows: 'Use shorter rows, or let rows be longer under More settings, and train again.',
  settings_invalid: 'Change the settings, and train again.',
  base_mismatch: 'The base has changed since. Train again, on what is served now.',
  checkpoint_mismatch: 'Train again; it begins anew.',
  checkpoint_damaged: 'Train again; it begins anew.',
  loss_not_finite: 'Use a smaller learning rate factor, and train again.',
  out_of_memory: 'Use fewer rows a step or shorter rows, or ask the operator for an origin with more memory.',
  disk_full: 'Ask the operator to make room on the origin’s disk, and train again.',
  too_long: 'Use fewer epochs or fewer rows, and train again.',
  key_ended: 'Train again with a key that may train.',
  file_not_found: 'Choose the file again, and train again.',
  file_damaged: 'Choose the file again, and train again.',
  adapter_invalid: 'Train again. If it happens again, look at the origin’s log.',
  training_failed: 'Train again. If it happens again, look at the origin’s log.',
};

/** Newest last, each once. @param page newest first, as the edge lists them. */
export function withPage(known: readonly JobEventView[], page: readonly JobEventView[]): JobEventView[] {
  const have = new Set(known.map(({ id }) => id));
  return [...known, ...page.filter(({ id }) => !have.has(id))].sort((a, b) => numberOf(a) - numberOf(b));
}

/** Events of a job are numbered. */
const numberOf = ({ id }: JobEventView): number => Number(id.slice(id.lastIndexOf('-') + 1));

/**
 * The losses of all steps. A job that began again elsewhere repeats steps: the earlier ones are dropped from there on.
 * @param events newest last.
 */
export function storyColumns(events: readonly JobEventView[]): LossColumns {
  const points: { step: number; training: number | null; heldOut: number | null }[] = [];
  for (const { data } of events) {
    if (data === null) continue;
    const { step, train_loss: training = null, valid_loss: heldOut = null } = data;
    while ((points.at(-1)?.step ?? -1) > step) points.pop();
    const last = points.at(-1);
    if (last?.step === step) {
      last.training = training ?? last.training;
      last.heldOut = heldOut ?? last.heldOut;
    } else points.push({ step, training, heldOut });
  }
  return {
    steps: points.map(({ step }) => step),
    training: points.map(({ training }) => training),
    heldOut: points.map(({ heldOut }) => heldOut),
  };
}

/** @param events newest last. @returns the last step that was told, and of how many; null = none yet. */
export function progressOf(events: readonly JobEventView[]): { step: number; steps: number } | null {
  const data = events.findLast((event) => event.data !== null)?.data ?? null;
  return data === null ? null : { step: data.step, steps: data.total_steps };
}

/** What happened, without the steps. @param events newest last. @returns newest first. */
export const messagesOf = (events: readonly JobEventView[]): JobEventView[] =>
  events
    .filter(({ type }) => type === 'message')
    // Of a failure, both origin and edge say why.
    .filter(({ message }, at, all) => message !== all[at - 1]?.message)
    .toReversed();

/** What the form for another training like this one begins with, as its address says it. */
export function settingsOf(job: JobView): Record<string, string> {
  const { graft, method, seed } = job;
  const { n_epochs: epochs, batch_size: batch, learning_rate_multiplier: factor } = job.hyperparameters;
  const given: Record<string, string | number> = {
    ...{ name: graft.name, parent: trainsOn(job), method: method.type, rank: graft.rank, seed },
    ...(epochs === 'auto' ? {} : { epochs }),
    ...(batch === 'auto' ? {} : { batch }),
    ...(factor === 'auto' ? {} : { factor }),
    ...(graft.checkpoints ? { checkpoints: 'epochs' } : {}),
  };
  return Object.fromEntries(Object.entries(given).map(([field, value]) => [field, String(value)]));
}

/** @returns the command that gives the key the right to train, if that is what it lacks. */
export function missingRight({ code, message }: Problem): string | null {
  if (code !== 'insufficient_scope') return null;
  return /graft keys change \S+ --train/.exec(message)?.[0] ?? null;
}
