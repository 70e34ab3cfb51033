/** Files while they are downloaded: each attempt has its own, and continues the remains of an earlier one. */
import { randomBytes } from 'node:crypto';
import { readdir, rename, stat } from 'node:fs/promises';
import path from 'node:path';

/** Bytes; -1 without the file. */
export const sizeOf = (file: string): Promise<number> =>
  stat(file).then(
    ({ size }) => size,
    () => -1,
  );

/** Parallel downloads do not write into one file. */
export const ownPartial = (file: string): string =>
  `${file}.${process.pid}-${randomBytes(4).toString('hex')}.partial`;

/** A file's remains of an earlier attempt become `partial`, unless another attempt uses them. */
export async function takeOver(target: string, partial: string): Promise<void> {
  const folder = path.dirname(target);
  const begin = `${path.basename(target)}.`;
  for (const name of await readdir(folder)) {
    if (!name.startsWith(begin)) continue;
    const left = /^(?:(\d+)-[0-9a-f]{8}\.)?partial$/.exec(name.slice(begin.length));
    if (left === null || (left[1] !== undefined && isAlive(Number(left[1])))) continue;
    const taken = await rename(path.join(folder, name), partial).then(
      () => true,
      () => false,
    );
    if (taken) return;
  }
}

/** For the next attempt, in any process. */
export const leavePartial = (target: string, partial: string): Promise<void> =>
  rename(partial, `${target}.partial`).catch(() => undefined);

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
