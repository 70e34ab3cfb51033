/** Jobs, events and checkpoints in the shapes of OpenAI's API. No I/O. */
import type { JobCheckpointView, JobEventView, JobView } from '../../protocol/fine-tuning.ts';
import type { StoredJobEvent, TrainingJob } from './ports.ts';

const secondsOf = (ms: number): number => Math.floor(ms / 1_000);
const orNull = (ms: number | null): number | null => (ms === null ? null : secondsOf(ms));
/** The digits of a job's id. */
const digitsOf = (job: string): string => job.slice('ftjob-'.length);

/** `name@version` of a job that has succeeded. */
export const modelOf = ({ name, result }: TrainingJob): string | null =>
  result === null ? null : `${name}@${result.version}`;

export function shownJob(job: TrainingJob): JobView {
  const { asked, request, result } = job;
  const { n_epochs, batch_size, learning_rate_multiplier, beta } = asked;
  const hyperparameters = { n_epochs, batch_size, learning_rate_multiplier };
  return {
    id: job.id,
    object: 'fine_tuning.job',
    created_at: secondsOf(job.createdAt),
    started_at: orNull(job.startedAt),
    finished_at: orNull(job.finishedAt),
    estimated_finish: job.status === 'running' ? orNull(job.estimatedFinish) : null,
    status: job.status,
    error: job.error,
    model: asked.model,
    fine_tuned_model: modelOf(job),
    user_provided_suffix: asked.suffix,
    organization_id: job.tenant,
    training_file: job.rows.file,
    validation_file: job.validation?.file ?? null,
    result_files: [],
    trained_tokens: result?.tokens ?? null,
    seed: request.seed,
    hyperparameters,
    method:
      asked.method === 'dpo'
        ? { type: 'dpo', dpo: { hyperparameters: { ...hyperparameters, beta } } }
        : { type: 'supervised', supervised: { hyperparameters } },
    integrations: null,
    metadata: asked.metadata,
    graft: {
      ...{ name: job.name, parent: job.parent, base: job.base, rank: request.rank },
      checkpoints: job.checkpoints !== null,
    },
  };
}

export const eventIdOf = (job: string, number: number): string => `ftevent-${digitsOf(job)}-${number}`;

/** @returns the event's number; null if it is another job's. */
export function eventNumberOf(job: string, id: string): number | null {
  const prefix = `ftevent-${digitsOf(job)}-`;
  return id.startsWith(prefix) ? Number(id.slice(prefix.length)) : null;
}

const loss = (name: string, value: number | null): Record<string, number> =>
  value === null ? {} : { [name]: value };

export const shownEvent = (
  job: string,
  { number, at, level, message, metrics }: StoredJobEvent,
): JobEventView => ({
  id: eventIdOf(job, number),
  object: 'fine_tuning.job.event',
  created_at: secondsOf(at),
  level,
  message,
  type: metrics === null ? 'message' : 'metrics',
  data:
    metrics === null
      ? null
      : {
          step: metrics.step,
          total_steps: metrics.total_steps,
          ...loss('train_loss', metrics.train_loss),
          ...loss('valid_loss', metrics.valid_loss),
        },
});

/** Versions that it has staged, newest first: its result, and before it what was trained by earlier steps. */
export function shownCheckpoints(job: TrainingJob): JobCheckpointView[] {
  const { result, finishedAt, checkpoints } = job;
  const shown = ({ version, step, at, train_loss, valid_loss }: Staged): JobCheckpointView => ({
    id: `ftckpt-${digitsOf(job.id)}-${step}`,
    object: 'fine_tuning.job.checkpoint',
    created_at: secondsOf(at),
    fine_tuning_job_id: job.id,
    fine_tuned_model_checkpoint: `${job.name}@${version}`,
    step_number: step,
    metrics: { step, ...loss('train_loss', train_loss), ...loss('full_valid_loss', valid_loss) },
  });
  const staged: Staged[] = (checkpoints ?? []).flatMap((one) =>
    one.version === null ? [] : [{ ...one, version: one.version }],
  );
  if (result !== null && finishedAt !== null) staged.push({ ...result, step: result.steps, at: finishedAt });
  return staged.map(shown).reverse();
}

type Staged = NonNullable<TrainingJob['checkpoints']>[number] & { version: number };
