/**
 * Fine-tuning jobs between edge and origin: what a job is, and how the origin says what has become of it. Only data:
 * rows, settings, and digests of adapters; no address and no code.
 */
import { z } from 'zod';
import { ChainEntry, Digest } from './identity.ts';
import { MAX_CHAIN } from './limits.ts';
import { MAX_CHECKPOINTS, TRAINING_FAILURES, TrainingCard, TrainingRequest } from './training.ts';

export const TrainingJobId = z.string().regex(/^ftjob-[0-9a-z]{24}$/);
export type TrainingJobId = z.infer<typeof TrainingJobId>;

/** A file of rows. */
export const MAX_ROWS_FILE_BYTES = 32 * 1024 ** 2;
/** Of a file of rows, as it is stored and sent; the last part has the rest. */
export const ROWS_PART_BYTES = 4 * 1024 ** 2;
/** Rows of a file. */
export const MAX_FILE_ROWS = 100_000;
/** Running time of a job. */
export const MAX_JOB_SECONDS = 8 * 60 * 60;
/** Events of one {@link JobReport}. */
export const MAX_JOB_EVENTS_AT_ONCE = 200;

const FileOfRows = z.strictObject({ bytes: z.int().min(1).max(MAX_ROWS_FILE_BYTES), sha256: Digest });

/** `PUT /jobs/<id>` of an origin. */
export const JobDeclaration = z.strictObject({
  tenant: z.string().min(1),
  request: TrainingRequest,
  /** What it trains on top of, root first; empty = the base. One adapter comes on top. */
  chain: z.array(ChainEntry).max(MAX_CHAIN - 1),
  rows: FileOfRows,
  /** Rows to hold out, in the place of a share of `rows`. Its parts come after those of `rows`, in number too. */
  validation: FileOfRows.optional(),
  /** Whether adapters of earlier steps are kept, too. */
  checkpoints: z.literal(true).optional(),
  /** Running time after which it fails. */
  max_seconds: z.int().min(1).max(MAX_JOB_SECONDS),
});
export type JobDeclaration = z.infer<typeof JobDeclaration>;

/** `waiting`: for the files of its chain's adapters. */
export const JOB_STATES = ['receiving', 'waiting', 'running', 'paused', 'done', 'failed'] as const;
export type JobState = (typeof JOB_STATES)[number];

/** Beside what the program that trains says. */
export const JOB_FAILURES = [...TRAINING_FAILURES, 'too_long'] as const;
export type JobFailure = (typeof JOB_FAILURES)[number];

/** One line of a job's story; numbers rise by one from 1. */
export const JobEvent = z.object({
  number: z.int().min(1),
  /** Unix ms. */
  at: z.int(),
  level: z.enum(['info', 'warn', 'error']),
  /** For the job's owner. */
  message: z.string().max(2_000),
  /** Of a step; a held-out loss stands beside the step after which it was taken. */
  metrics: z
    .object({
      step: z.int().min(0),
      total_steps: z.int().min(0),
      train_loss: z.number().nullable(),
      valid_loss: z.number().nullable(),
    })
    .nullable(),
});
export type JobEvent = z.infer<typeof JobEvent>;

const PackedAdapter = z.object({ bytes: z.int().min(1), digest: Digest, card: TrainingCard });

/** `GET /jobs/<id>?after=<number>` of an origin, and the answer of all that change a job. */
export const JobReport = z.object({
  id: TrainingJobId,
  state: z.enum(JOB_STATES),
  /** Numbers of the parts of its files that are not there; empty once all are. */
  missing_parts: z.array(z.int().min(0)),
  /** Adapters of its chain whose files are not there. */
  missing_adapters: z.array(Digest),
  step: z.int().min(0),
  /** 0 = not known yet. */
  steps: z.int().min(0),
  /** Labelled tokens of the steps that are done. */
  tokens: z.int().min(0),
  /** Until the end, of what is left; null = not known. */
  seconds_left: z.number().min(0).nullable(),
  failure: z.object({ code: z.enum(JOB_FAILURES), message: z.string().max(2_000) }).nullable(),
  /** In state `done`: the packed adapter's size and digest, and its card. */
  result: PackedAdapter.nullable(),
  /** In state `done`, where they were asked for: adapters of earlier steps, ascending. The card has the step. */
  checkpoints: z.array(PackedAdapter).max(MAX_CHECKPOINTS),
  /** After the number that was asked for, oldest first, at most {@link MAX_JOB_EVENTS_AT_ONCE}. */
  events: z.array(JobEvent),
});
export type JobReport = z.infer<typeof JobReport>;

/** `GET /jobs` of an origin. */
export const JobList = z.object({
  /** False without `--train`. */
  trains: z.boolean(),
  jobs: z.array(z.object({ id: TrainingJobId, tenant: z.string(), state: z.enum(JOB_STATES) })),
});
export type JobList = z.infer<typeof JobList>;

/** `DELETE /jobs/<id>` of an origin. */
export const JobDeletion = z.object({ deleted: z.boolean() });
