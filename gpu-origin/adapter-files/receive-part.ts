import { createHash } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { err, ok, type Result } from '../../protocol/index.ts';

export type PartProblem =
  | { kind: 'too_long' }
  | { kind: 'too_short'; received: number }
  | { kind: 'wrong_hash' }
  | { kind: 'cut'; received: number };

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
      for (let done = 0; done < next.value.length;)
        done += (await file.write(next.value, done, next.value.length - done)).bytesWritten;
    }
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
