/**
 * Jobs on the origin's disk, in `<folder>/<id>/`, for the origin's user alone:
 *
 * - `job.json`: {@link JobRecord}. A folder without one is a rest, and removed.
 * - `parts/<n>`: of its files, while they are received; then `rows.jsonl` and, if it has one, `validation.jsonl`.
 * - `chain/<digest>`: copies of the adapters that it trains on, so that the origin may evict its own.
 * - `work/`: the program's checkpoint and result.
 * - `checkpoints/`: adapters of earlier steps, and their cards, as the program writes them.
 * - `events.jsonl`: the story; `result`: the packed adapter.
 *
 * Every file but the story is written under another name and renamed, so a write that was cut off leaves nothing. A
 * job that has ended keeps record, story, result and checkpoints alone; one that has failed, no checkpoints.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { appendFile, chmod, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { Digest } from '../../protocol/identity.ts';
import {
  CHECKPOINT_FILE,
  checkpointFile,
  MAX_CHECKPOINTS,
  PACKED_FILE,
  TrainingCard,
} from '../../protocol/training.ts';
import {
  JOB_FAILURES,
  JobDeclaration,
  JobEvent,
  ROWS_PART_BYTES,
  TrainingJobId,
} from '../../protocol/training-jobs.ts';

const Failure = z.strictObject({ code: z.enum(JOB_FAILURES), message: z.string() });
const JobResult = z.strictObject({ bytes: z.int().min(1), digest: Digest, card: TrainingCard });
export type JobResult = z.infer<typeof JobResult>;

export const JobRecord = z.strictObject({
  declaration: JobDeclaration,
  /** Digest of the base that the origin had when it took the job. */
  base: Digest,
  /** Unix ms of the last question about it. */
  heard_at: z.int(),
  paused: z.boolean(),
  /** All rows are there, and are the declared ones. */
  received: z.boolean(),
  /** Running time so far, ms. */
  ran_ms: z.number().min(0),
  /** Of the last line that the program wrote. */
  step: z.int().min(0),
  steps: z.int().min(0),
  /** Of the last line, too: labelled tokens of all steps. */
  tokens: z.int().min(0),
  /** Times that the program died and was started again. */
  deaths: z.int().min(0),
  /** Starts since the last checkpoint that did not end in order: of an origin that was killed with it. */
  unfinished_starts: z.int().min(0),
  end: z
    .discriminatedUnion('state', [
      z.strictObject({
        state: z.literal('done'),
        result: JobResult,
        checkpoints: z.array(JobResult).max(MAX_CHECKPOINTS),
      }),
      z.strictObject({ state: z.literal('failed'), failure: Failure }),
    ])
    .nullable(),
});
export type JobRecord = z.infer<typeof JobRecord>;

/** A job as it was found on the disk. */
export interface StoredJob {
  readonly id: TrainingJobId;
  readonly record: JobRecord;
  /** Numbers of the parts that are there. */
  readonly parts: ReadonlySet<number>;
  readonly events: readonly JobEvent[];
}

type Files = Pick<JobDeclaration, 'rows' | 'validation'>;

const partsOf = (bytes: number): number => Math.ceil(bytes / ROWS_PART_BYTES);

/** Bytes of a declared part. @returns 0 if there is no such part. */
export function partBytes({ rows, validation }: Files, part: number): number {
  const own = partsOf(rows.bytes);
  const [bytes, number] = part < own ? [rows.bytes, part] : [validation?.bytes ?? 0, part - own];
  return Math.max(0, Math.min(ROWS_PART_BYTES, bytes - number * ROWS_PART_BYTES));
}

export const partCount = ({ rows, validation }: Files): number =>
  partsOf(rows.bytes) + partsOf(validation?.bytes ?? 0);

export interface JobStore {
  /** All that were there when it was opened, in no order. */
  readonly found: readonly StoredJob[];
  /** Creates or replaces the record. */
  save(id: TrainingJobId, record: JobRecord): Promise<void>;
  putPart(id: TrainingJobId, part: number, bytes: Uint8Array): Promise<void>;
  /**
   * Makes the files of all parts; the parts are removed.
   * @returns what is not the declared file; null = all are.
   */
  joinParts(id: TrainingJobId, files: Files): Promise<keyof Files | null>;
  putAdapter(id: TrainingJobId, digest: string, bytes: Uint8Array): Promise<void>;
  hasAdapter(id: TrainingJobId, digest: string): boolean;
  hasCheckpoint(id: TrainingJobId): boolean;
  dropCheckpoint(id: TrainingJobId): Promise<void>;
  /** Paths for the program; creates its folder. */
  prepare(id: TrainingJobId): Promise<{
    work: string;
    rows: string;
    validation: string;
    checkpoints: string;
    adapter(digest: string): string;
  }>;
  /** Writes a line of the story, after those before. */
  tell(id: TrainingJobId, event: JobEvent): void;
  /** Until all lines are written. */
  flush(): Promise<void>;
  /** Makes the program's packed adapter the result. */
  takeResult(id: TrainingJobId): Promise<{ bytes: number; digest: string }>;
  resultPath(id: TrainingJobId): string;
  /** Of the adapter after this step. @throws if it is not there. */
  readCheckpoint(id: TrainingJobId, step: number): Promise<{ bytes: number; digest: string }>;
  checkpointPath(id: TrainingJobId, step: number): string;
  /** Removes rows, adapters and work. @param more.checkpoints removes these too. */
  strip(id: TrainingJobId, more: { checkpoints: boolean }): Promise<void>;
  /** Removes everything. */
  remove(id: TrainingJobId): Promise<void>;
}

const PRIVATE_FOLDER = { recursive: true, mode: 0o700 } as const;
const PRIVATE_FILE = { mode: 0o600, flag: 'wx' } as const;
/** A file may be in use for a moment: of a program that was just killed. */
const REMOVAL = { recursive: true, force: true, maxRetries: 5, retryDelay: 50 } as const;

const [RECORD, ROWS, STORY, RESULT] = ['job.json', 'rows.jsonl', 'events.jsonl', 'result'];
const VALIDATION = 'validation.jsonl';
const CHECKPOINTS = 'checkpoints';

/** Reads the jobs that are there, and removes rests. */
export async function openJobStore({ folder }: { folder: string }): Promise<JobStore> {
  await mkdir(folder, PRIVATE_FOLDER);
  // An existing one keeps its mode.
  await chmod(folder, 0o700);
  const found: StoredJob[] = [];
  const adapters = new Map<string, Set<string>>();
  for (const name of await readdir(folder)) {
    const job = await readJob(join(folder, name), name);
    if (job === null) await rm(join(folder, name), REMOVAL);
    else {
      found.push(job.stored);
      adapters.set(name, job.adapters);
    }
  }

  const at = (id: TrainingJobId, ...path: readonly string[]): string => join(folder, id, ...path);
  const writeWhole = async (path: string, content: string | Uint8Array): Promise<void> => {
    const draft = `${path}.${randomBytes(8).toString('hex')}.tmp`;
    try {
      await writeFile(draft, content, PRIVATE_FILE);
      await rename(draft, path);
    } catch (error) {
      await rm(draft, { force: true });
      throw error;
    }
  };
  /** The last write of each story. */
  const stories = new Map<string, Promise<void>>();

  return {
    found,

    async save(id, record) {
      await mkdir(at(id), PRIVATE_FOLDER);
      await writeWhole(at(id, RECORD!), JSON.stringify(record));
    },

    async putPart(id, part, bytes) {
      await mkdir(at(id, 'parts'), PRIVATE_FOLDER);
      await writeWhole(at(id, 'parts', String(part)), bytes);
    },

    async joinParts(id, { rows, validation }) {
      const join = async (name: string, first: number, file: Files['rows']): Promise<boolean> => {
        const hash = createHash('sha256');
        const draft = at(id, `${name}.tmp`);
        await rm(draft, { force: true });
        const content = async function* (): AsyncGenerator<Buffer> {
          for (let part = 0; part < partsOf(file.bytes); part += 1) {
            const chunk = await readFile(at(id, 'parts', String(first + part)));
            hash.update(chunk);
            yield chunk;
          }
        };
        try {
          await pipeline(content(), createWriteStream(draft, { mode: 0o600, flags: 'wx' }));
          const isGood = hash.digest('hex') === file.sha256;
          if (isGood) await rename(draft, at(id, name));
          return isGood;
        } finally {
          await rm(draft, { force: true });
        }
      };
      let wrong: keyof Files | null = null;
      // The rows last: where they are, all is there.
      if (validation !== undefined && !(await join(VALIDATION, partsOf(rows.bytes), validation)))
        wrong = 'validation';
      else if (!(await join(ROWS!, 0, rows))) wrong = 'rows';
      await rm(at(id, 'parts'), REMOVAL);
      return wrong;
    },

    async putAdapter(id, digest, bytes) {
      await mkdir(at(id, 'chain'), PRIVATE_FOLDER);
      await writeWhole(at(id, 'chain', Digest.parse(digest)), bytes);
      adapters.set(id, (adapters.get(id) ?? new Set()).add(digest));
    },

    hasAdapter: (id, digest) => adapters.get(id)?.has(digest) ?? false,
    hasCheckpoint: (id) => existsSync(at(id, 'work', CHECKPOINT_FILE)),
    dropCheckpoint: (id) => rm(at(id, 'work', CHECKPOINT_FILE), { force: true }),

    async prepare(id) {
      await mkdir(at(id, 'work'), PRIVATE_FOLDER);
      return {
        work: at(id, 'work'),
        rows: at(id, ROWS!),
        validation: at(id, VALIDATION),
        checkpoints: at(id, CHECKPOINTS),
        adapter: (digest) => at(id, 'chain', Digest.parse(digest)),
      };
    },

    tell(id, event) {
      const line = `${JSON.stringify(event)}\n`;
      const before = stories.get(id) ?? Promise.resolve();
      const written = before.then(() => appendFile(at(id, STORY!), line, { mode: 0o600 }));
      stories.set(
        id,
        // A story that a full disk cuts short is no failure.
        written.catch(() => undefined),
      );
    },

    async flush() {
      await Promise.all(stories.values());
    },

    async takeResult(id) {
      const path = at(id, 'work', PACKED_FILE);
      const measured = await measure(path);
      await chmod(path, 0o600);
      await rename(path, at(id, RESULT!));
      return measured;
    },

    resultPath: (id) => at(id, RESULT!),
    readCheckpoint: (id, step) => measure(at(id, CHECKPOINTS, checkpointFile(step))),
    checkpointPath: (id, step) => at(id, CHECKPOINTS, checkpointFile(step)),

    async strip(id, { checkpoints }) {
      const names = ['parts', 'chain', 'work', ROWS!, VALIDATION, ...(checkpoints ? [CHECKPOINTS] : [])];
      for (const name of names) await rm(at(id, name), REMOVAL);
      adapters.delete(id);
    },

    async remove(id) {
      await stories.get(id);
      stories.delete(id);
      adapters.delete(id);
      // The record first: what a crash leaves behind is then a rest.
      await rm(at(id, RECORD!), { force: true });
      await rm(at(id), REMOVAL);
    },
  };
}

async function measure(path: string): Promise<{ bytes: number; digest: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, digest: hash.digest('hex') };
}

const PART_NAME = /^\d{1,4}$/;

/** @returns null: it is no job. */
async function readJob(
  folder: string,
  name: string,
): Promise<{ stored: StoredJob; adapters: Set<string> } | null> {
  const id = TrainingJobId.safeParse(name);
  if (!id.success) return null;
  const record = await readRecord(join(folder, RECORD!));
  if (record === null) return null;
  for (const at of [folder, join(folder, 'parts'), join(folder, 'chain')])
    for (const file of await namesIn(at)) if (file.endsWith('.tmp')) await rm(join(at, file), REMOVAL);
  const parts = new Set<number>();
  for (const file of await namesIn(join(folder, 'parts'))) {
    const part = Number(file);
    const { size } = await stat(join(folder, 'parts', file));
    if (PART_NAME.test(file) && size > 0 && size === partBytes(record.declaration, part)) parts.add(part);
  }
  // They are verified again when the program reads them.
  const adapters = new Set(await namesIn(join(folder, 'chain')));
  const received = record.received || existsSync(join(folder, ROWS!));
  // It ended before they were joined, which happens when the last one comes: they are sent again.
  if (!received && parts.size === partCount(record.declaration)) parts.clear();
  const events = await readStory(join(folder, STORY!));
  return { stored: { id: id.data, record: { ...record, received }, parts, events }, adapters };
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

async function readRecord(path: string): Promise<JobRecord | null> {
  try {
    return JobRecord.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return null;
  }
}

/** Up to the first line that is not whole, which is then cut off. */
async function readStory(path: string): Promise<JobEvent[]> {
  const events: JobEvent[] = [];
  const text = await readFile(path, 'utf8').catch(() => '');
  let length = 0;
  for (const line of text.split('\n').slice(0, -1)) {
    const event = parseEvent(line);
    if (event === null || event.number <= (events.at(-1)?.number ?? 0)) break;
    events.push(event);
    length += line.length + 1;
  }
  if (length < text.length) await writeFile(path, text.slice(0, length), { mode: 0o600 });
  return events;
}

function parseEvent(line: string): JobEvent | null {
  try {
    return JobEvent.parse(JSON.parse(line));
  } catch {
    return null;
  }
}
