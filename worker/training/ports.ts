/** Ports of files of rows (their rows in D1, their bytes in the store) and of fine-tuning jobs. */
import { z } from 'zod';
import type { JobStatus } from '../../protocol/fine-tuning.ts';
import { ChainEntry, Digest } from '../../protocol/identity.ts';
import { TrainingRequest } from '../../protocol/training.ts';
import type { JobEvent } from '../../protocol/training-jobs.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { LimitedCaller, UsageRow } from '../metering/ports.ts';

/** A key that may train, with its limits. */
export interface Trainer extends AdminCaller {
  limited: LimitedCaller;
}

/** A file of rows, as its owner sees it. */
export interface RowFile {
  id: string;
  tenant: string;
  filename: string;
  bytes: number;
  /** Lines that are not blank. */
  lines: number;
  /** Of its parts in the store. */
  parts: number;
  sha256: string;
  /** Unix ms, like the other. */
  createdAt: number;
  expiresAt: number;
}

/** What is still in the store though nobody can ask for it. */
export interface GoingFile {
  id: string;
  /** That may be stored. */
  parts: number;
}

/** D1's record of files. Throws StoreUnavailable. */
export interface RowFiles {
  /**
   * Reserves room for a file while it arrives.
   * @param file.bytes at most. @returns false if the tenant's files have no room for it, or its key has ended.
   */
  begin(file: {
    id: string;
    tenant: string;
    keyId: string;
    bytes: number;
    at: number;
    expiresAt: number;
  }): Promise<boolean>;
  /** Before the part is stored. @param parts with it. @returns false if the file was erased meanwhile. */
  grow(file: { id: string; parts: number; at: number }): Promise<boolean>;
  /** From now on it can be used. @returns false if it was erased meanwhile. */
  finish(file: Omit<RowFile, 'createdAt'>): Promise<boolean>;
  get(of: { id: string; tenant: string; now: number }): Promise<RowFile | null>;
  /** By id, which is by age. @param of.after an id. */
  list(of: {
    tenant: string;
    after: string | null;
    newestFirst: boolean;
    limit: number;
    now: number;
  }): Promise<RowFile[]>;
  /**
   * Nobody can ask for it from now on.
   * @param of.state that it must have; default: `ready`. @returns null if the tenant has no such file.
   */
  remove(of: {
    id: string;
    tenant: string;
    state?: 'receiving' | 'ready';
    at: number;
  }): Promise<GoingFile | null>;
  /**
   * The same for some of a tenant's, in any state; their rows no longer say whose they were.
   * @returns fewer than `limit` when those were all.
   */
  erase(of: { tenant: string; limit: number; at: number }): Promise<GoingFile[]>;
  /** The store has nothing more of them. */
  gone(ids: readonly string[]): Promise<void>;
  /** Expired and abandoned ones, and what deletions have left. */
  due(now: number): Promise<GoingFile[]>;
}

/** Where a part belongs. */
export interface RowPartPlace {
  tenant: string;
  file: string;
  /** From 0. */
  part: number;
}

/** The bytes of files, encrypted. Throws StoreUnavailable. */
export interface RowParts {
  /** @param expiresAt unix ms: a store that can deletes the part then by itself. */
  put(place: RowPartPlace, bytes: Uint8Array<ArrayBuffer>, expiresAt: number): Promise<void>;
  /** @returns null when it is missing, or was not sealed for this place. */
  get(place: RowPartPlace): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Missing parts are no error. @param parts of the file. */
  delete(file: string, parts: number): Promise<void>;
}

const Hyper = z.union([z.literal('auto'), z.number()]);

const SentFile = z.strictObject({ file: z.string(), bytes: z.int(), sha256: Digest });

const Losses = z.strictObject({ train_loss: z.number().nullable(), valid_loss: z.number().nullable() });

/** An adapter of an earlier step. */
const JobCheckpoint = Losses.extend({
  step: z.int(),
  /** Unix ms. */
  at: z.int(),
  /** Null = it could not be published. */
  version: z.int().nullable(),
});

/** What of a job only its readers need. */
export const JobDocument = z.strictObject({
  keyId: z.string(),
  createdAt: z.int(),
  /** As it was asked for. */
  asked: z.strictObject({
    model: z.string(),
    suffix: z.string().nullable(),
    method: z.enum(['supervised', 'dpo']),
    n_epochs: Hyper,
    batch_size: Hyper,
    learning_rate_multiplier: Hyper,
    beta: Hyper,
    metadata: z.record(z.string(), z.string()).nullable(),
  }),
  request: TrainingRequest,
  /** `name@version`; null = the base. */
  parent: z.string().nullable(),
  chain: z.array(ChainEntry),
  rows: SentFile,
  /** Null = a share of the rows is held out. */
  validation: SentFile.nullable(),
  /** `pause`: its owner wants it to stand still. */
  wanted: z.enum(['run', 'pause']),
  /** Its checkpoints so far, in the order of their steps; null = it was not asked for any. */
  checkpoints: z.array(JobCheckpoint).nullable(),
  /** When its origin last answered, unix ms. */
  heardAt: z.int(),
  /** When its result was there, unix ms; null = it is not. */
  doneAt: z.int().nullable(),
  startedAt: z.int().nullable(),
  /** Of its origin's events, those that are known. */
  seen: z.int(),
  /** Number of its last event here. */
  events: z.int(),
  /** Its tokens so far, as its origin says; usage has them once it has ended. */
  trained: z.int(),
  /** Of them, those that the budgets of its key have counted. */
  spent: z.int(),
  /** Unix ms; null = not known. */
  estimatedFinish: z.int().nullable(),
  error: z.strictObject({ code: z.string(), message: z.string(), param: z.string().nullable() }).nullable(),
  /** Of a job that has succeeded. */
  result: Losses.extend({ version: z.int(), tokens: z.int(), steps: z.int() }).nullable(),
});
export type JobDocument = z.infer<typeof JobDocument>;

export interface TrainingJob extends JobDocument {
  id: string;
  tenant: string;
  name: string;
  base: string;
  status: JobStatus;
  origin: string | null;
  /** Unix ms. */
  finishedAt: number | null;
  /** Unix ms. */
  lookedAt: number;
  revision: number;
}

/** A line of a job's story, without its number. */
export interface NewJobEvent {
  /** Unix ms. */
  at: number;
  level: JobEvent['level'];
  message: string;
  metrics: JobEvent['metrics'];
}

export interface StoredJobEvent extends NewJobEvent {
  number: number;
}

/** What becomes of a job. */
export type JobChange = Partial<
  Omit<TrainingJob, 'id' | 'tenant' | 'name' | 'parent' | 'base' | 'lookedAt' | 'revision' | 'events'>
> & {
  /** Unix ms; when it may be given to an origin. */
  notBefore?: number;
  beganAt?: number;
};

/** D1's record of jobs. Throws StoreUnavailable. */
export interface TrainingJobs {
  /**
   * @returns `full` if the tenant has as many as it may, or its key has ended; `taken` if the name is no longer free
   * for it.
   */
  create(job: TrainingJob, event: NewJobEvent): Promise<'created' | 'full' | 'taken'>;
  get(of: { id: string; tenant: string }): Promise<TrainingJob | null>;
  /** Newest first. @param of.after an id. */
  list(of: { tenant: string; after: string | null; limit: number }): Promise<TrainingJob[]>;
  /** Newest first. @param of.before a number. */
  events(of: { job: string; before: number | null; limit: number }): Promise<StoredJobEvent[]>;
  /** Takes the job to attend to it. @returns null if somebody else does, or it has ended. */
  lease(of: { id: string; now: number; until: number }): Promise<TrainingJob | null>;
  /** @param of.until as it is leased. @param of.next the later end. @returns false if somebody else attends to it now. */
  renew(of: { id: string; until: number; next: number }): Promise<boolean>;
  release(of: { id: string; until: number }): Promise<void>;
  /**
   * Changes the job as it was read, adds events, and notes what its origin is to delete, together.
   * @param more.leaves the origin is to delete it. @param more.usage of a job that ends: noted for {@link TrainingJobs.uncounted}.
   * @returns null if somebody has changed it since.
   */
  save(
    job: TrainingJob,
    change: JobChange,
    more?: { events?: readonly NewJobEvent[]; leaves?: boolean; usage?: UsageRow | null },
  ): Promise<TrainingJob | null>;
  /** Ids of jobs that an origin has, the longest unattended first. */
  attended(of: { now: number; limit: number }): Promise<string[]>;
  /** Bases that queued jobs wait for. */
  waitingBases(now: number): Promise<string[]>;
  /** Origins that have a job which may run. */
  busyOrigins(): Promise<string[]>;
  /** The next one for a base: of the tenant whose last job began longest ago. */
  next(of: { base: string; now: number }): Promise<TrainingJob | null>;
  /** What origins are to delete, the longest unasked first; they count as asked now. */
  deletions(of: { now: number; limit: number }): Promise<{ origin: string; job: string }[]>;
  deleted(of: { origin: string; job: string }): Promise<void>;
  /** Notes that the origin is to delete the job, unless that is given to it again. */
  leaves(of: { origin: string; job: string }): Promise<void>;
  /** Usage of ended jobs that the ledger of usage may not have. @param of.tenant null = any. */
  uncounted(of: { tenant: string | null; limit: number }): Promise<{ batch: string; row: UsageRow }[]>;
  /** The ledger of usage has it. */
  counted(of: { tenant: string; batch: string }): Promise<void>;
  /** Deletes some of the jobs that ended long ago. */
  tend(now: number): Promise<void>;
  /**
   * Deletes some of a tenant's jobs, or those of names that an erasure erases, and on top of them.
   * @returns how many; fewer than `limit` when those were all.
   */
  erase(of: { erasure: number; tenant: string | null; limit: number }): Promise<number>;
}
