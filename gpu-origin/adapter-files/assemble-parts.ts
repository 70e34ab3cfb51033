import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';

/**
 * Joins parts into `path`, which exists afterwards only when the whole has the digest. Not synced to the disk, which can
 * take a second: the store checks the digest at every read, so a file that a crash damaged counts as missing.
 * @returns whether the digest is right.
 */
export async function assembleParts(params: {
  parts: readonly string[];
  path: string;
  temporary: string;
  digest: string;
}): Promise<boolean> {
  const hash = createHash('sha256');
  const file = await open(params.temporary, 'wx', 0o600);
  let good = false;
  try {
    for (const part of params.parts)
      for await (const chunk of createReadStream(part) as AsyncIterable<Buffer>) {
        hash.update(chunk);
        for (let done = 0; done < chunk.length;)
          done += (await file.write(chunk, done, chunk.length - done)).bytesWritten;
      }
    good = hash.digest('hex') === params.digest;
  } finally {
    await file.close();
    if (!good) await rm(params.temporary, { force: true });
  }
  if (good) await rename(params.temporary, params.path);
  return good;
}
