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

/**
 * Bytes at the same place of each row of a table, one behind the other. @param table.position of its first row.
 * @returns null when the file ends before the last.
 */
export function readStrips(
  fd: number,
  table: { position: number; rows: number; rowBytes: number },
  { from, bytes }: { from: number; bytes: number },
): Uint8Array<ArrayBuffer> | null {
  const strips = new Uint8Array(table.rows * bytes);
  for (let row = 0; row < table.rows; row++) {
    const strip = strips.subarray(row * bytes, (row + 1) * bytes);
    if (!readFully(fd, strip, table.position + row * table.rowBytes + from)) return null;
  }
  return strips;
}

/** sha256 of a file as lower-case hex, read in a stream. */
export async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 4 * 1024 * 1024 }), hash);
  return hash.digest('hex');
}
