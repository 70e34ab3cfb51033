import { createHash } from 'node:crypto';
import { createReadStream, readSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';

/** Fills `target` from a position in a file, bytes. @returns false when the file ends before it is full. */
export function readFully(fd: number, target: Uint8Array, position: number): boolean {
  for (let done = 0; done < target.length;) {
    const count = readSync(fd, target, done, target.length - done, position + done);
    if (count === 0) return false;
    done += count;
  }
  return true;
}

/** sha256 of a file as lower-case hex, read in a stream. */
export async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 4 * 1024 * 1024 }), hash);
  return hash.digest('hex');
}
