/**
 * Canonical adapter files on the origin's disk, by digest: `<folder>/<digest>` is a whole, checked file,
 * `<folder>/incoming/<digest>.<random>/` an upload. No path is made of anything but hex digits and part numbers.
 */
import { randomBytes } from 'node:crypto';
import { renameSync } from 'node:fs';
import { mkdir, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ApiError, Digest, err, ok, sha256Hex, type Result } from '../../protocol/index.ts';
import type { AdapterFileStore, UploadState } from './ports.ts';
import {
  ABANDONED_MS,
  assembleParts,
  notAnnounced,
  partError,
  type PartProblem,
  readSlice,
  readUploads,
  receivePart,
  Upload,
} from './file-parts.ts';
import { DiskIndex, type DiskRefusal, DiskRoom, freeBytesOf } from './disk-room.ts';

export interface AdapterStoreOptions {
  folder: string;
  /** Whole files and uploads together, bytes. */
  budgetBytes: number;
  /** Wall clock, ms. */
  now: () => number;
  /** Files that must not be removed to make room, beside those that are kept. */
  isInUse: (digest: string) => boolean;
  /** What the disk still takes, bytes; the file system's own word unless given. */
  freeBytes?: () => Promise<number>;
  /** Hears of a write that the disk refused. */
  onDiskRefusal?: (refusal: DiskRefusal) => void;
}

export interface AdapterStore extends AdapterFileStore {
  /** Adds a whole file, such as a packed folder. */
  put(digest: string, file: Uint8Array<ArrayBuffer>): Promise<Result<void, ApiError>>;
}

/** Reads what is there already; files that do not belong are left alone, temporary ones are removed. */
export async function openAdapterStore(options: AdapterStoreOptions): Promise<AdapterStore> {
  const { folder, budgetBytes, now, isInUse } = options;
  const incoming = join(folder, 'incoming');
  await mkdir(incoming, { recursive: true, mode: 0o700 });
  const index = await readIndex(folder);
  const uploads = await readUploads(incoming, now());

  const fileOf = (digest: string): string => join(folder, Digest.parse(digest));
  const random = (): string => randomBytes(8).toString('hex');
  const temporary = (path: string): string => `${path}.${random()}.tmp`;

  /** At once out of the way: what is received anew meanwhile stays. */
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

  /** @returns whether it is the file that was announced; null = it was let go of meanwhile. */
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

  /** Makes its folder. @param before one in other parts, which it takes the place of. */
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
      return err(await room.refused(error));
    }
  };

  return {
    async status(digest) {
      if (index.has(digest)) return 'held';
      const upload = uploads.get(digest);
      return upload?.isBusy(now()) ? 'receiving' : 'missing';
    },

    async read(digest) {
      if (!index.has(digest)) return null;
      const path = fileOf(digest);
      const file = await readSlice(path, 0, index.bytesOf(digest));
      if (file === null) {
        index.delete(digest);
        return null;
      }
      // A disk may lie; a damaged file is as good as none, and is sent again.
      if ((await sha256Hex(file)) !== digest) {
        index.delete(digest);
        await discard(digest);
        return null;
      }
      index.touch(digest);
      const seconds = now() / 1000;
      await utimes(path, seconds, seconds).catch(() => undefined);
      return file;
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
        // Whoever sends it again may have met a disk that was full.
        await room.make(reservedBytes, unwrittenBytes());
        return ok(stateOf(digest));
      }
      if (current?.isBusy(now()))
        return err({
          code: 'adapter_loading',
          message: 'This adapter is being received in other parts.',
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
          if (!isCurrent() || !upload.goesOn(i, attempt, now())) throw new Error('nobody wants it any more');
          yield chunk;
        }
      };
      let received: Result<void, PartProblem>;
      try {
        received = await receivePart({ ...part, body: alive(), path, temporary: temporary(path) });
      } catch (error) {
        upload.end(i, attempt, 'missing', now());
        // Its folder went with the upload: nothing is wrong with the disk.
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
          message: `The parts do not make the file ${digest}: its sha256 is another.`,
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
      // Nobody adds to it any more; who joins its parts just now leaves no file behind.
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
