/** Writes what a command made: whole or not at all, and over nothing that was there unless told so. */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ArgsDef } from 'citty';
import { CliError, EXIT } from '../cli-error.ts';

/** Flags of every command that writes an adapter. */
export const outputFlags = {
  out: {
    type: 'string',
    alias: 'o',
    description: 'Where to write; a folder for PEFT, else a file',
    valueHint: 'path',
    required: true,
  },
  force: { type: 'boolean', description: 'Write over what is there' },
} as const satisfies ArgsDef;

/** One file, or the files of a folder by name. */
export type OutputContent = Uint8Array | ReadonlyMap<string, Uint8Array | string>;

/** @returns the files that {@link writeOutput} writes, with their sizes. */
export const outputFiles = (out: string, content: OutputContent): { path: string; bytes: number }[] =>
  content instanceof Uint8Array
    ? [{ path: out, bytes: content.length }]
    : [...content].map(([name, data]) => ({ path: path.join(out, name), bytes: Buffer.byteLength(data) }));

const unusable = (code: string, message: string): CliError =>
  new CliError({ message, exitCode: EXIT.usage, code });

/**
 * Called before the work starts, so that nobody waits for a result that cannot be kept.
 * @param kind what will be written at `out`.
 * @throws CliError `output_exists` or `output_invalid` (usage).
 */
export async function checkOutput(out: string, kind: 'file' | 'folder', force: boolean): Promise<void> {
  const parent = path.dirname(path.resolve(out));
  if (!(await isFolder(parent)))
    throw unusable('output_invalid', `-o ${out}: the folder ${parent} does not exist. Make it first.`);
  const entry = await stat(out).catch(() => null);
  if (entry === null) return;
  if (entry.isDirectory() !== (kind === 'folder'))
    throw unusable(
      'output_invalid',
      `-o ${out} is ${entry.isDirectory() ? 'a folder' : 'not a folder'}: name a ${kind}.`,
    );
  if (force || (kind === 'folder' && (await readdir(out)).length === 0)) return;
  throw unusable('output_exists', `${out} exists. Write elsewhere, or over it with --force.`);
}

/**
 * @param out passed {@link checkOutput}. Other files of a folder that exists are left alone.
 * @throws CliError `output_invalid` (error) when the disk refuses.
 */
export async function writeOutput(out: string, content: OutputContent): Promise<void> {
  try {
    if (content instanceof Uint8Array)
      await replace(out, (draft) => writeFile(draft, content, { flag: 'wx' }));
    else if (await isFolder(out))
      for (const [name, data] of content)
        await replace(path.join(out, name), (draft) => writeFile(draft, data, { flag: 'wx' }));
    else
      await replace(out, async (draft) => {
        await mkdir(draft);
        for (const [name, data] of content) await writeFile(path.join(draft, name), data);
      });
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new CliError({ message: `${out} cannot be written (${reason}).`, code: 'output_invalid' });
  }
}

/** In the same folder, so that the rename is atomic. */
async function replace(target: string, write: (draft: string) => Promise<void>): Promise<void> {
  const draft = `${target.replace(/[/\\]+$/, '')}.${randomBytes(4).toString('hex')}`;
  try {
    await write(draft);
    await rename(draft, target);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
}

const isFolder = (entry: string): Promise<boolean> =>
  stat(entry).then(
    (found) => found.isDirectory(),
    () => false,
  );
