/**
 * Canonical adapter files on the origin's disk, by digest: `<folder>/<digest>` is a complete, verified file,
 * `<folder>/incoming/<digest>.<random>/` an upload. Paths consist of hex digits and part numbers only.
 */
import { randomBytes, createHash } from 'node:crypto';
import { renameSync, createReadStream } from 'node:fs';
import {
  mkdir,
  readdir,
  rm,
  stat,
  utimes,
  writeFile,
  type FileHandle,
  open,
  readFile,
  rename,
} from 'node:fs/promises';
import { join } from 'node:path';
import { AdapterFormatError, isEmbedding, movedTokens, parseCanonical } from '../../adapters/index.ts';
import type { AdapterTraits } from '../../protocol/activation.ts';
import { BlobRecord } from '../../protocol/adapter-manifest.ts';
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { Digest, sha256Hex } from '../../protocol/identity.ts';
import { DiskIndex, type DiskRefusal, DiskRoom, type DiskState, freeBytesOf } from './disk-room.ts';

interface UploadState {
  digest: string;
  /** The file is complete. */
  held: boolean;
  /** Indexes of the missing parts. */
  missingParts: number[];
}

/** The caller validates digests. */
export interface AdapterFileStore {
  /** Whether a file is complete, being received, or absent. Cheap: called for every request's chain. */
  status(digest: string): Promise<'held' | 'receiving' | 'missing'>;
  /** @returns the whole file, or null when it is absent. */
  read(digest: string): Promise<Uint8Array<ArrayBuffer> | null>;
  /** @returns what a trial must know of the adapter; null = there is no such valid file. */
  traits(digest: string): Promise<AdapterTraits | null>;
  /**
   * @returns these bytes of a whole file, fewer at its end; null when it is absent. Not verified against its
   * hash.
   */
  slice(digest: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer> | null>;
  /**
   * Announces the parts of a file. Repeating the same record returns the progress of the upload; another record
   * for the same digest starts over. Errors: `request_too_large` when the file exceeds the disk budget.
   */
  declare(digest: string, record: BlobRecord): Promise<Result<UploadState, ApiError>>;
  /** @returns size and sha256 of an announced part, or null. */
  part(digest: string, index: number): { bytes: number; sha256: string } | null;
  /**
   * Receives a part; the last valid one makes the adapter available. `receiving`: another request is sending
   * the same part. Errors: `not_found` (not announced), `adapter_invalid` (size or sha256 of the part or of the
   * whole is wrong), `adapter_unavailable` (the disk is full).
   */
  putPart(
    digest: string,
    index: number,
    body: AsyncIterable<Uint8Array>,
  ): Promise<Result<'stored' | 'held' | 'receiving', ApiError>>;
  /**
   * A request needs them: they are evicted last, and not at all until the returned function is called. They may
   * still be absent.
   */
  keep(digests: Iterable<string>): () => void;
  /** Removes the file and its upload. @returns whether there was any. */
  drop(digest: string): Promise<boolean>;
  disk(): DiskState;
}

export interface AdapterStoreOptions {
  folder: string;
  /** Complete files and uploads together, bytes. */
  budgetBytes: number;
  /** Wall clock, ms. */
  now: () => number;
  /** Files that must not be evicted, in addition to the kept ones. */
  isInUse: (digest: string) => boolean;
  /** Free disk space, bytes; default: reported by the file system. */
  freeBytes?: () => Promise<number>;
  /** Called when the disk refuses a write. */
  onDiskRefusal?: (refusal: DiskRefusal) => void;
}

export interface AdapterStore extends AdapterFileStore {
  /** Adds a whole file, such as a packed folder. */
  put(digest: string, file: Uint8Array<ArrayBuffer>): Promise<Result<void, ApiError>>;
}

/** Reads existing files; unknown ones are left alone, temporary ones are removed. */
export async function openAdapterStore(options: AdapterStoreOptions): Promise<AdapterStore> {
  const { folder, budgetBytes, now, isInUse } = options;
  const incoming = join(folder, 'incoming');
  await mkdir(incoming, { recursive: true, mode: 0o700 });
  const index = await readIndex(folder);
  const uploads = await readUploads(incoming, now());

  const fileOf = (digest: string): string => join(folder, Digest.parse(digest));
  const random = (): string => randomBytes(8).toString('hex');
  const temporary = (path: string): string => `${path}.${random()}.tmp`;

  /** Renamed away at once, so that a file received in the meantime stays. */
  const discard = async (digest: string): Promise<void> => {
    const gone = temporary(fileOf(digest));
    try {
      renameSync(fileOf(digest), gone);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    await rm(gone, { force: true });
  };
  const dropUpload = async (digest: string): Promise<void> => {
    const upload = uploads.get(digest);
    uploads.delete(digest);
    await upload?.remove();
  };
  const reservedBytes = (): number =>
    [...uploads.values()].reduce((sum, upload) => sum + upload.record.bytes, 0);
  const unwrittenBytes = (): number =>
    [...uploads.values()].reduce((sum, upload) => sum + upload.unwrittenBytes, 0);
  const room = new DiskRoom({
    index,
    budgetBytes,
    isInUse,
    freeBytes: options.freeBytes ?? (() => freeBytesOf(folder)),
    onRefusal: options.onDiskRefusal ?? (() => undefined),
    async remove(digest) {
      index.delete(digest);
      await discard(digest);
    },
  });
  const stateOf = (digest: string): UploadState => ({
    digest,
    held: index.has(digest),
    missingParts: index.has(digest) ? [] : (uploads.get(digest)?.missing ?? []),
  });

  /** @returns whether it is the announced file; null = it was dropped in the meantime. */
  const finish = async (digest: string, upload: Upload): Promise<boolean | null> => {
    const whole = await assembleParts({
      parts: upload.record.parts.map(({ sha256 }, i) => ({ path: join(upload.folder, String(i)), sha256 })),
      temporary: temporary(fileOf(digest)),
      digest,
    });
    if (uploads.get(digest) !== upload) {
      if (whole !== null) await rm(whole, { force: true });
      return null;
    }
    if (whole !== null) {
      renameSync(whole, fileOf(digest));
      index.add(digest, upload.record.bytes);
      room.written();
    }
    await dropUpload(digest);
    await room.make(reservedBytes, unwrittenBytes(), digest);
    return whole !== null;
  };

  /** Creates its folder. @param before an upload with other parts, which it replaces. */
  const prepare = async (digest: string, upload: Upload, before: Upload | undefined) => {
    await before?.prepared;
    try {
      await before?.remove();
      await room.make(reservedBytes, unwrittenBytes());
      await mkdir(upload.folder, { recursive: true, mode: 0o700 });
      const record = JSON.stringify(upload.record);
      await writeFile(join(upload.folder, 'record.json'), record, { mode: 0o600 });
      return ok(undefined);
    } catch (error) {
      if (uploads.get(digest) === upload) uploads.delete(digest);
      // A full disk takes the folder, and then not the record.
      await upload.remove().catch(() => undefined);
      return err(await room.refused(error));
    }
  };

  const read: AdapterFileStore['read'] = async (digest) => {
    if (!index.has(digest)) return null;
    const path = fileOf(digest);
    const file = await readSlice(path, 0, index.bytesOf(digest));
    if (file === null) {
      index.delete(digest);
      return null;
    }
    // A disk may corrupt data; a corrupted file counts as absent, and is sent again.
    if ((await sha256Hex(file)) !== digest) {
      index.delete(digest);
      await discard(digest);
      return null;
    }
    index.touch(digest);
    const seconds = now() / 1000;
    await utimes(path, seconds, seconds).catch(() => undefined);
    return file;
  };

  return {
    async status(digest) {
      if (index.has(digest)) return 'held';
      const upload = uploads.get(digest);
      return upload?.isBusy(now()) ? 'receiving' : 'missing';
    },

    read,

    async traits(digest) {
      const file = await read(digest);
      if (file === null) return null;
      try {
        const { config, classifier, modules } = parseCanonical(file);
        const embedding = modules.find(({ name }) => isEmbedding(name));
        return {
          invocation: config.invocation ?? null,
          classifies: classifier !== undefined,
          moves: embedding === undefined ? [] : movedTokens(embedding),
        };
      } catch (error) {
        if (error instanceof AdapterFormatError) return null;
        throw error;
      }
    },

    slice: async (digest, begin, end) => (index.has(digest) ? readSlice(fileOf(digest), begin, end) : null),

    async declare(digest, record) {
      const total = record.parts.reduce((sum, part) => sum + part.bytes, 0);
      if (total !== record.bytes)
        return err({
          code: 'invalid_request',
          message: `The parts have ${total} bytes, the file ${record.bytes}.`,
          param: 'bytes',
        });
      if (record.bytes > budgetBytes)
        return err({
          code: 'request_too_large',
          message: `The adapter has ${record.bytes} bytes; this origin's disk budget is ${budgetBytes}.`,
        });
      if (index.has(digest)) return ok(stateOf(digest));
      for (const [other, upload] of uploads)
        if (!upload.receiving && now() - upload.lastActive > ABANDONED_MS) await dropUpload(other);
      const current = uploads.get(digest);
      if (current?.matches(record)) {
        const prepared = await current.prepared;
        if (prepared?.ok === false) return prepared;
        // The sender may retry after the disk was full.
        await room.make(reservedBytes, unwrittenBytes());
        return ok(stateOf(digest));
      }
      if (current?.isBusy(now()))
        return err({
          code: 'adapter_loading',
          message: 'Another upload is sending this adapter in different parts.',
          retryAfterMs: 1_000,
        });
      const place = join(incoming, `${Digest.parse(digest)}.${random()}`);
      const upload = new Upload(record, place, now());
      uploads.set(digest, upload);
      upload.prepared = prepare(digest, upload, current);
      const prepared = await upload.prepared;
      upload.prepared = null;
      return prepared.ok ? ok(stateOf(digest)) : prepared;
    },

    part(digest, i) {
      return uploads.get(digest)?.record.parts[i] ?? null;
    },

    async putPart(digest, i, body) {
      if (index.has(digest)) return ok('held');
      const upload = uploads.get(digest);
      const part = upload?.record.parts[i];
      if (upload === undefined || part === undefined) return err(notAnnounced(digest, i));
      const prepared = upload.prepared === null ? ok(undefined) : await upload.prepared;
      if (!prepared.ok) return prepared;
      if (upload.state(i) === 'held') return ok('held');
      const attempt = upload.begin(i, now());
      if (attempt === null) return ok('receiving');
      const path = join(upload.folder, String(i));
      const isCurrent = (): boolean => uploads.get(digest) === upload;
      const alive = async function* (): AsyncGenerator<Uint8Array> {
        for await (const chunk of body) {
          if (!isCurrent() || !upload.goesOn(i, attempt, now()))
            throw new Error('nobody waits for it any more');
          yield chunk;
        }
      };
      let received: Result<void, PartProblem>;
      try {
        received = await receivePart({ ...part, body: alive(), path, temporary: temporary(path) });
      } catch (error) {
        upload.end(i, attempt, 'missing', now());
        // Its folder was removed with the upload: the disk is fine.
        if (!isCurrent()) return index.has(digest) ? ok('held') : err(notAnnounced(digest, i));
        return err(await room.refused(error));
      }
      upload.end(i, attempt, received.ok ? 'held' : 'missing', now());
      if (!isCurrent()) return index.has(digest) ? ok('held') : err(notAnnounced(digest, i));
      if (!received.ok) return err(partError(i, part.bytes, received.error));
      if (upload.missing.length > 0) return ok('stored');
      try {
        upload.assembling ??= finish(digest, upload);
        const good = await upload.assembling;
        if (good !== false) return good === null ? err(notAnnounced(digest, i)) : ok('stored');
        return err({
          code: 'adapter_invalid',
          message: `The parts do not make the file ${digest}: their sha256 differs.`,
          reason: 'digest_mismatch',
        });
      } catch (error) {
        if (isCurrent()) await dropUpload(digest);
        return err(await room.refused(error));
      }
    },

    async put(digest, file) {
      if (index.has(digest)) return ok(undefined);
      if (file.length > budgetBytes)
        return err({
          code: 'request_too_large',
          message: `The adapter has ${file.length} bytes; the disk budget is ${budgetBytes}.`,
        });
      try {
        await room.make(() => file.length + reservedBytes(), file.length + unwrittenBytes());
        const path = fileOf(digest);
        const scratch = temporary(path);
        await writeFile(scratch, file, { mode: 0o600, flag: 'wx' });
        renameSync(scratch, path);
      } catch (error) {
        return err(await room.refused(error));
      }
      index.add(digest, file.length);
      room.written();
      return ok(undefined);
    },

    keep: (digests) => room.keep(digests),

    async drop(digest) {
      const upload = uploads.get(digest);
      // Nobody adds to it any more; a join in progress leaves no file behind.
      uploads.delete(digest);
      await upload?.prepared;
      await upload?.assembling?.catch(() => undefined);
      const held = index.delete(digest);
      await discard(digest);
      await upload?.remove();
      return held || upload !== undefined;
    },

    disk: () => room.state(),
  };
}

async function readIndex(folder: string): Promise<DiskIndex> {
  const index = new DiskIndex();
  const found: { digest: string; bytes: number; usedAt: number }[] = [];
  for (const name of await readdir(folder)) {
    if (/^[0-9a-f]{64}\.[0-9a-f]{16}\.tmp$/.test(name)) await rm(join(folder, name), { force: true });
    if (!Digest.safeParse(name).success) continue;
    const { size, mtimeMs } = await stat(join(folder, name));
    found.push({ digest: name, bytes: size, usedAt: mtimeMs });
  }
  for (const file of found.sort((a, b) => a.usedAt - b.usedAt)) index.add(file.digest, file.bytes);
  return index;
}

/** After this silence an upload no longer blocks requests or other senders; its sender is gone. */
const STALLED_MS = 5_000;
/** … and after this its parts are removed. */
const ABANDONED_MS = 60 * 60 * 1000;

/** An adapter being received: its record, and the progress of each part. */
class Upload {
  private readonly states: ('missing' | 'receiving' | 'held')[];
  /** The current receiver of each part: the attempt that started last. */
  private readonly attempts: number[] = [];
  /** `Clock.now()` of the last sign of life, ms. */
  lastActive: number;
  /** Settles when its folder exists, or cannot be created; null = it exists. */
  prepared: Promise<Result<void, ApiError>> | null = null;
  /** Set while the parts are being joined. */
  assembling: Promise<boolean | null> | null = null;

  /** @param folder of this upload only: another upload of the same adapter never finds its leftovers. */
  constructor(
    readonly record: BlobRecord,
    readonly folder: string,
    now: number,
    held: (index: number) => boolean = () => false,
  ) {
    this.states = record.parts.map((_part, index) => (held(index) ? 'held' : 'missing'));
    this.lastActive = now;
  }

  state(index: number): 'missing' | 'receiving' | 'held' {
    return this.states[index] ?? 'missing';
  }

  /** Starts sending a part. @returns a number for `goesOn` and `end`; null = another live sender does. */
  begin(index: number, now: number): number | null {
    if (this.state(index) === 'receiving' && this.isBusy(now)) return null;
    this.states[index] = 'receiving';
    this.lastActive = now;
    return (this.attempts[index] = (this.attempts[index] ?? 0) + 1);
  }

  /** @returns whether this attempt is still the current one. */
  goesOn(index: number, attempt: number, now: number): boolean {
    if (this.attempts[index] !== attempt) return false;
    this.lastActive = now;
    return true;
  }

  /** The attempt has ended. A received part counts, whichever attempt sent it. */
  end(index: number, attempt: number, state: 'missing' | 'held', now: number): void {
    if (state === 'missing' && this.attempts[index] !== attempt) return;
    this.states[index] = state;
    this.lastActive = now;
  }

  /** Parts are being joined or received, by a live sender. */
  isBusy(now: number): boolean {
    return this.assembling !== null || (this.receiving && now - this.lastActive < STALLED_MS);
  }

  get missing(): number[] {
    return this.states.flatMap((state, index) => (state === 'held' ? [] : [index]));
  }

  /** Bytes that this upload will still write: missing parts, and the joined file. */
  get unwrittenBytes(): number {
    const joined = this.record.parts.length > 1 ? this.record.bytes : 0;
    return this.missing.reduce((sum, index) => sum + this.record.parts[index]!.bytes, joined);
  }

  get receiving(): boolean {
    return this.assembling !== null || this.states.includes('receiving');
  }

  /** A write in progress may be in the way. */
  remove(): Promise<void> {
    return rm(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
  }

  matches(record: BlobRecord): boolean {
    return JSON.stringify(record) === JSON.stringify(this.record);
  }
}

type PartProblem =
  | { kind: 'too_long' }
  | { kind: 'too_short'; received: number }
  | { kind: 'wrong_hash' }
  | { kind: 'cut'; received: number };

const notAnnounced = (digest: string, i: number): ApiError => ({
  code: 'not_found',
  message: `Part ${i} of ${digest} was not announced (PUT /adapters/<digest> first).`,
});

function partError(i: number, bytes: number, problem: PartProblem): ApiError {
  const message = {
    too_long: `Part ${i} is longer than the ${bytes} bytes announced.`,
    too_short: `Part ${i} ended after ${'received' in problem ? problem.received : 0} of ${bytes} bytes.`,
    cut: `Part ${i} was cut off after ${'received' in problem ? problem.received : 0} of ${bytes} bytes.`,
    wrong_hash: `Part ${i} does not have the announced sha256.`,
  }[problem.kind];
  return { code: 'adapter_invalid', message, reason: `part_${problem.kind}`, param: String(i) };
}

/**
 * Streams a part into `path`, which exists afterwards only when size and sha256 are right.
 * @param temporary a path in the same folder that nobody else uses.
 * @throws the file system's errors.
 */
async function receivePart(params: {
  body: AsyncIterable<Uint8Array>;
  path: string;
  temporary: string;
  bytes: number;
  sha256: string;
}): Promise<Result<void, PartProblem>> {
  const { bytes, path, temporary } = params;
  const file = await open(temporary, 'wx', 0o600);
  let kept = false;
  try {
    const hash = createHash('sha256');
    let received = 0;
    let unwritten: Uint8Array[] = [];
    let unwrittenBytes = 0;
    const chunks = params.body[Symbol.asyncIterator]();
    for (;;) {
      let next: IteratorResult<Uint8Array>;
      try {
        next = await chunks.next();
      } catch {
        return err({ kind: 'cut', received });
      }
      if (next.done) break;
      received += next.value.length;
      if (received > bytes) {
        await chunks.return?.().catch(() => undefined);
        return err({ kind: 'too_long' });
      }
      hash.update(next.value);
      unwritten.push(next.value);
      unwrittenBytes += next.value.length;
      if (unwrittenBytes < WRITE_BYTES) continue;
      await writeFully(file, Buffer.concat(unwritten));
      [unwritten, unwrittenBytes] = [[], 0];
    }
    await writeFully(file, Buffer.concat(unwritten));
    if (received < bytes) return err({ kind: 'too_short', received });
    if (hash.digest('hex') !== params.sha256) return err({ kind: 'wrong_hash' });
    await rename(temporary, path);
    kept = true;
    return ok(undefined);
  } finally {
    await file.close();
    if (!kept) await rm(temporary, { force: true });
  }
}

/**
 * Joins parts. Not synced to the disk, which can take a second: the store verifies the digest at every read, so
 * a file corrupted by a crash counts as missing.
 * @param params.parts verified when they were received.
 * @returns the path of the whole: `temporary`, or the only part; null = its digest differs.
 */
async function assembleParts(params: {
  parts: readonly { path: string; sha256: string }[];
  temporary: string;
  digest: string;
}): Promise<string | null> {
  const { temporary, digest } = params;
  const [only, ...others] = params.parts;
  if (only?.sha256 === digest && others.length === 0) return only.path;
  const hash = createHash('sha256');
  const file = await open(temporary, 'wx', 0o600);
  let good = false;
  try {
    for (const part of params.parts)
      for await (const chunk of createReadStream(part.path, {
        highWaterMark: WRITE_BYTES,
      }) as AsyncIterable<Buffer>) {
        hash.update(chunk);
        await writeFully(file, chunk);
      }
    good = hash.digest('hex') === digest;
  } finally {
    await file.close();
    if (!good) await rm(temporary, { force: true });
  }
  return good ? temporary : null;
}

/** Bytes per write: a body arrives in chunks of 16 to 64 kB, and each write queues for the thread pool. */
const WRITE_BYTES = 1024 ** 2;

async function writeFully(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;)
    done += (await file.write(bytes, done, bytes.length - done)).bytesWritten;
}

/** @returns bytes `begin` to `end` of a file, fewer at its end; null when it is absent. */
async function readSlice(path: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer> | null> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    const bytes = new Uint8Array(end - begin);
    let done = 0;
    while (done < bytes.length) {
      const { bytesRead } = await file.read(bytes, done, bytes.length - done, begin + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return bytes.subarray(0, done);
  } finally {
    await file.close();
  }
}

/** Resumes uploads that were in progress when the origin ended. */
async function readUploads(incoming: string, now: number): Promise<Map<string, Upload>> {
  const uploads = new Map<string, Upload>();
  for (const name of await readdir(incoming)) {
    const [digest = ''] = name.split('.');
    if (!Digest.safeParse(digest).success) continue;
    const folder = join(incoming, name);
    const names = new Set(await readdir(folder));
    for (const file of names) if (file.endsWith('.tmp')) await rm(join(folder, file), { force: true });
    const record = await readRecord(join(folder, 'record.json'));
    const { mtimeMs } = await stat(folder);
    const upload = record && new Upload(record, folder, mtimeMs, (i) => names.has(String(i)));
    // Complete but never joined: no further part would trigger the joining.
    const useless = upload === null || upload.missing.length === 0 || now - mtimeMs > ABANDONED_MS;
    if (useless || uploads.has(digest)) await rm(folder, { recursive: true, force: true });
    else uploads.set(digest, upload);
  }
  return uploads;
}

async function readRecord(path: string): Promise<BlobRecord | null> {
  try {
    return BlobRecord.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return null;
  }
}
