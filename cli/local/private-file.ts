import { randomBytes } from 'node:crypto';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** Readable by the owner alone: keys and secrets lie in such files. */
const PRIVATE = 0o600;

/** Writes a file that only the owner may read, whole or not at all; its folder is made when missing. */
export async function writePrivateFile(file: string, text: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.${randomBytes(4).toString('hex')}`;
  await writeFile(draft, text, { mode: PRIVATE, flag: 'wx' });
  await rename(draft, file);
}
