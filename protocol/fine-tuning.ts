/** Fine-tuning jobs: requests and answers of OpenAI's Fine-tuning API, and what graft adds in `graft`. */
import { z } from 'zod';
import { listOf, PageLimit, RowFileId } from './files.ts';
import { AdapterName } from './identity.ts';
import { MAX_METADATA } from './limits.ts';
import { MAX_BATCH_ROWS, MAX_EPOCHS, TrainingRequest, TrainingSettings } from './training.ts';
import { TrainingJobId } from './training-jobs.ts';

/** Longest reference to a model: a name and a version. */
const MAX_MODEL = 300;

const auto = z.literal('auto');
/** A factor of the usual learning rate. */
const Multiplier = z.number().positive().max(1_000);

const SUPERVISED = {
  n_epochs: z.union([auto, z.int().min(1).max(MAX_EPOCHS)]).optional(),
  batch_size: z.union([auto, z.int().min(1).max(MAX_BATCH_ROWS)]).nullish(),
  learning_rate_multiplier: z.union([auto, Multiplier]).optional(),
};
const DPO = { ...SUPERVISED, beta: z.union([auto, TrainingSettings.shape.beta]).optional() };

/** A method as it is asked for and shown. */
export const JobMethod = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('supervised'),
    supervised: z.strictObject({ hyperparameters: z.strictObject(SUPERVISED).optional() }).optional(),
  }),
  z.strictObject({
    type: z.literal('dpo'),
    dpo: z.strictObject({ hyperparameters: z.strictObject(DPO).optional() }).optional(),
  }),
]);
export type JobMethod = z.infer<typeof JobMethod>;

const metadata = z
  .record(z.string().max(MAX_METADATA.key), z.string().max(MAX_METADATA.value))
  .refine(
    (map) => Object.keys(map).length <= MAX_METADATA.pairs,
    `must not have more than ${MAX_METADATA.pairs} pairs`,
  );

const { rank, alpha, targets, least_steps, max_length, validation } = TrainingSettings.shape;

/** Settings that OpenAI's API has no field for; each but `checkpoints` is the flag of `graft train` with that name. */
export const GraftJobSettings = z
  .strictObject({
    /** Whole name of the result, in the place of `suffix`. */
    name: AdapterName,
    rank,
    alpha,
    targets,
    least_steps,
    max_length,
    validation,
    activated: TrainingSettings.shape.activated.unwrap(),
    activated_by: TrainingRequest.shape.activated_by.unwrap(),
    /** Stages adapters of the last whole epochs before the end, too. */
    checkpoints: z.boolean(),
  })
  .partial();

/** `POST /v1/fine_tuning/jobs` */
export const JobRequest = z
  .strictObject({
    /** `base`, a base's id, a name, or `name@version`. */
    model: z.string().min(1).max(MAX_MODEL),
    training_file: RowFileId,
    /** Last part of the result's name, below `model`; with a base, the whole name. */
    suffix: z.string().min(1).max(MAX_MODEL).nullish(),
    method: JobMethod.optional(),
    /** As older clients send them: of supervised training. */
    hyperparameters: z.strictObject(SUPERVISED).optional(),
    seed: TrainingSettings.shape.seed.nullish(),
    metadata: metadata.nullish(),
    graft: GraftJobSettings.optional(),
    /** Its rows are held out, in the place of a share of the others. */
    validation_file: RowFileId.nullish(),
    /** Refused unless it is null or empty. */
    integrations: z.array(z.unknown()).max(0).nullish(),
  })
  .meta({ id: 'FineTuningJobRequest' });
export type JobRequest = z.infer<typeof JobRequest>;

export const JOB_STATUSES = ['queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled'] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

/** Seconds since 1970, like all times here. */
const seconds = z.int().min(0);

const ShownHyperparameters = z.object({
  n_epochs: z.union([auto, z.number()]),
  batch_size: z.union([auto, z.number()]),
  learning_rate_multiplier: z.union([auto, z.number()]),
});

export const JobView = z
  .object({
    id: TrainingJobId,
    object: z.literal('fine_tuning.job'),
    created_at: seconds,
    started_at: seconds.nullable(),
    finished_at: seconds.nullable(),
    estimated_finish: seconds.nullable(),
    status: z.enum(JOB_STATUSES),
    error: z.object({ code: z.string(), message: z.string(), param: z.string().nullable() }).nullable(),
    /** As it was asked for. */
    model: z.string(),
    /** `name@version`, staged. */
    fine_tuned_model: z.string().nullable(),
    user_provided_suffix: z.string().nullable(),
    organization_id: z.string(),
    training_file: RowFileId,
    validation_file: RowFileId.nullable(),
    result_files: z.array(z.string()),
    trained_tokens: z.int().nullable(),
    seed: z.int(),
    hyperparameters: ShownHyperparameters,
    method: z.object({
      type: z.enum(['supervised', 'dpo']),
      supervised: z.object({ hyperparameters: ShownHyperparameters }).optional(),
      dpo: z
        .object({ hyperparameters: ShownHyperparameters.extend({ beta: z.union([auto, z.number()]) }) })
        .optional(),
    }),
    integrations: z.null(),
    metadata: z.record(z.string(), z.string()).nullable(),
    graft: z.object({
      /** Of the result. */
      name: z.string(),
      /** What it trains on, `name@version`; null = the base. */
      parent: z.string().nullable(),
      base: z.string(),
      rank: z.int(),
      /** Whether checkpoints were asked for. */
      checkpoints: z.boolean(),
    }),
  })
  .meta({ id: 'FineTuningJob' });
export type JobView = z.infer<typeof JobView>;

/** `GET /v1/fine_tuning/jobs`: newest first, like the other lists. */
export const JobPage = listOf(JobView).meta({ id: 'FineTuningJobList' });
export type JobPage = z.infer<typeof JobPage>;

export const JobEventId = z.string().regex(/^ftevent-[0-9a-z]{24}-[1-9]\d{0,8}$/, 'must be an event id');

export const JobEventView = z
  .object({
    id: JobEventId,
    object: z.literal('fine_tuning.job.event'),
    created_at: seconds,
    level: z.enum(['info', 'warn', 'error']),
    message: z.string(),
    type: z.enum(['message', 'metrics']),
    data: z
      .object({
        step: z.number(),
        total_steps: z.number(),
        train_loss: z.number().optional(),
        valid_loss: z.number().optional(),
      })
      .nullable(),
  })
  .meta({ id: 'FineTuningJobEvent' });
export type JobEventView = z.infer<typeof JobEventView>;

/** `GET /v1/fine_tuning/jobs/<id>/events` */
export const JobEventPage = listOf(JobEventView).meta({ id: 'FineTuningJobEventList' });
export type JobEventPage = z.infer<typeof JobEventPage>;

export const JobCheckpointView = z
  .object({
    id: z.string(),
    object: z.literal('fine_tuning.job.checkpoint'),
    created_at: seconds,
    fine_tuning_job_id: TrainingJobId,
    fine_tuned_model_checkpoint: z.string(),
    step_number: z.int(),
    metrics: z.object({
      step: z.number(),
      train_loss: z.number().optional(),
      full_valid_loss: z.number().optional(),
    }),
  })
  .meta({ id: 'FineTuningJobCheckpoint' });
export type JobCheckpointView = z.infer<typeof JobCheckpointView>;

/** `GET /v1/fine_tuning/jobs/<id>/checkpoints`: versions that a job has staged, newest first: its result and, where asked for, earlier ones. */
export const JobCheckpointPage = listOf(JobCheckpointView).meta({ id: 'FineTuningJobCheckpointList' });
export type JobCheckpointPage = z.infer<typeof JobCheckpointPage>;

/** Usual and largest pages. OpenAI's. */
export const JOB_PAGE = { usual: 20, most: 100 } as const;

export const JobListQuery = z.strictObject({ after: TrainingJobId.optional(), limit: PageLimit.optional() });
export const JobEventQuery = z.strictObject({ after: JobEventId.optional(), limit: PageLimit.optional() });
export const JobCheckpointQuery = z.strictObject({
  after: z.string().max(64).optional(),
  limit: PageLimit.optional(),
});
