import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type ApiError, BlobRecord, Digest, err, ok, type Result } from '../../protocol/index.ts';

/** An upload without a sign of life for so long no longer holds requests, or other senders, back; its sender is gone. */
const STALLED_MS = 5_000;
/** … and after this its parts are removed. */
export const ABANDONED_MS = 60 * 60 * 1000;

/** One adapter being received: its record, and how far each part is. */
export class Upload {
  private readonly states: ('missing' | 'receiving' | 'held')[];
  /** Who receives a part now, by its index: the last one that began. */
  private readonly attempts: number[] = [];
  /** `Clock.now()` of the last sign of life, ms. */
  lastActive: number;
  /** Settles when its folder is there, or cannot be; null = it is there. */
  prepared: Promise<Result<void, ApiError>> | null = null;
  /** Set while the parts are being joined. */
  assembling: Promise<boolean | null> | null = null;

  /** @param folder of this upload alone: another one of the same adapter never finds what it leaves. */
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

  /** Somebody sends this part. @returns a number for `goesOn` and `end`; null = another one does, who is not gone. */
  begin(index: number, now: number): number | null {
    if (this.state(index) === 'receiving' && this.isBusy(now)) return null;
    this.states[index] = 'receiving';
    this.lastActive = now;
    return (this.attempts[index] = (this.attempts[index] ?? 0) + 1);
  }

  /** @returns whether what comes is wanted still: nobody else sends the part meanwhile. */
  goesOn(index: number, attempt: number, now: number): boolean {
    if (this.attempts[index] !== attempt) return false;
    this.lastActive = now;
    return true;
  }

  /** The attempt has ended. A part that is here is here, whoever has brought it. */
  end(index: number, attempt: number, state: 'missing' | 'held', now: number): void {
    if (state === 'missing' && this.attempts[index] !== attempt) return;
    this.states[index] = state;
    this.lastActive = now;
  }

  /** Parts are joined, or come: not from a sender that is gone. */
  isBusy(now: number): boolean {
    return this.assembling !== null || (this.receiving && now - this.lastActive < STALLED_MS);
  }

  get missing(): number[] {
    return this.states.flatMap((state, index) => (state === 'held' ? [] : [index]));
  }

  /** What this upload will still write: parts that are not here, and the file that several are joined to. */
  get unwrittenBytes(): number {
    const joined = this.record.parts.length > 1 ? this.record.bytes : 0;
    return this.missing.reduce((sum, index) => sum + this.record.parts[index]!.bytes, joined);
  }

  get receiving(): boolean {
    return this.assembling !== null || this.states.includes('receiving');
  }

  /** What is being written there just now may be in the way. */
  remove(): Promise<void> {
    return rm(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
  }

  matches(record: BlobRecord): boolean {
    return JSON.stringify(record) === JSON.stringify(this.record);
  }
}

export type PartProblem =
  | { kind: 'too_long' }
  | { kind: 'too_short'; received: number }
  | { kind: 'wrong_hash' }
  | { kind: 'cut'; received: number };

export const notAnnounced = (digest: string, i: number): ApiError => ({
  code: 'not_found',
  message: `Part ${i} of ${digest} was not announced (PUT /adapters/<digest> first).`,
});

export function partError(i: number, bytes: number, problem: PartProblem): ApiError {
  const message = {
    too_long: `Part ${i} is longer than the ${bytes} bytes that were announced.`,
    too_short: `Part ${i} ended after ${'received' in problem ? problem.received : 0} of ${bytes} bytes.`,
    cut: `Part ${i} was cut off after ${'received' in problem ? problem.received : 0} of ${bytes} bytes.`,
    wrong_hash: `Part ${i} has another sha256 than was announced.`,
  }[problem.kind];
  return { code: 'adapter_invalid', message, reason: `part_${problem.kind}`, param: String(i) };
}

/**
 * Streams a part into `path`, which exists afterwards only when size and sha256 are right.
 * @param temporary a path in the same folder that nobody else uses.
 * @throws the file system's errors.
 */
export async function receivePart(params: {
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
 * Joins parts. Not synced to the disk, which can take a second: the store checks the digest at every read, so a file that
 * a crash damaged counts as missing.
 * @param params.parts checked when they were received.
 * @returns where the whole lies: `temporary`, or the only part; null = its digest is another.
 */
export async function assembleParts(params: {
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

/** Written at once: a body comes in pieces of 16 to 64 kB, and each write takes its turn in the pool of threads. */
const WRITE_BYTES = 1024 ** 2;

async function writeFully(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;)
    done += (await file.write(bytes, done, bytes.length - done)).bytesWritten;
}

/** @returns bytes `begin` to `end` of a file, fewer where it ends before; null when there is no such file. */
export async function readSlice(
  path: string,
  begin: number,
  end: number,
): Promise<Uint8Array<ArrayBuffer> | null> {
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

/** Uploads that were under way when the origin ended go on where they were. */
export async function readUploads(incoming: string, now: number): Promise<Map<string, Upload>> {
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
    // Complete but never joined: the origin ended in between; no further part would start the joining.
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
