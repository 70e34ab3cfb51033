import { randomBytes } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CliError, EXIT } from '../cli-error.ts';

/** Permissions of keys and secrets: readable by the owner only. */
const PRIVATE = 0o600;

/** Writes a file that only the owner may read, completely or not at all; its folder is created when missing. */
export const writePrivateFile = (file: string, text: string): Promise<void> =>
  writePrivateFiles([[file, text]]);

/**
 * The same for several files: all are written before the first gets its name, and the last one gets its own
 * last.
 */
export async function writePrivateFiles(
  files: readonly (readonly [file: string, text: string])[],
): Promise<void> {
  const drafts = files.map(([file, text]) => ({
    file,
    text,
    draft: `${file}.${randomBytes(4).toString('hex')}`,
  }));
  try {
    for (const { file, text, draft } of drafts) {
      await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
      await writeFile(draft, text, { mode: PRIVATE, flag: 'wx' });
    }
    for (const { file, draft } of drafts) await rename(draft, file);
  } catch (error) {
    for (const { draft } of drafts) await rm(draft, { force: true });
    throw error;
  }
}

/** Whether it is the remainder of such a file, left by a killed process. */
export const isLeftDraft = (name: string): boolean => /\.[0-9a-f]{8}$/.test(name);

/** Permission bits of group and others. */
const OTHERS = 0o077;
/** umask that removes all rights of group and others. */
const PRIVATE_UMASK = OTHERS;

/**
 * Creates a folder for its owner only; an existing one with wider rights is narrowed.
 * @param options.contents also narrow its contents: copies keep their own rights.
 * @throws CliError when it belongs to somebody else.
 */
export async function makePrivateFolder(folder: string, options: { contents?: boolean } = {}): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  // Windows has no such rights.
  if (process.platform === 'win32') return;
  const { mode, uid } = await stat(folder);
  if (uid !== process.getuid?.())
    throw new CliError({
      message:
        `${folder} belongs to another user, who could read and change its contents. Run \`graft dev\` in ` +
        'a folder of your own, or remove this one.',
      exitCode: EXIT.auth,
      code: 'folder_not_yours',
    });
  if ((mode & OTHERS) === 0) return;
  await chmod(folder, mode & 0o700);
  if (options.contents === true) await narrow(folder);
}

async function narrow(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const file = path.join(folder, name);
    const entry = await lstat(file);
    // Not through links: their targets are outside the folder.
    if (entry.isSymbolicLink()) continue;
    if ((entry.mode & OTHERS) !== 0) await chmod(file, entry.mode & 0o700);
    if (entry.isDirectory()) await narrow(file);
  }
}

let running = 0;
let before = 0;

/** Runs `work` so that files which this process, and its new children, create belong to their owner only. */
export async function makePrivately<T>(work: () => Promise<T>): Promise<T> {
  // The umask is per process: the last of overlapping calls restores it.
  if (running++ === 0) before = process.umask(PRIVATE_UMASK);
  try {
    return await work();
  } finally {
    if (--running === 0) process.umask(before);
  }
}
