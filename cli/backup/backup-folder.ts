/** A backup on disk: `manifest.json`, `tables/<name>.ndjson`, `files/<digest>`. */
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { Digest } from '../../protocol/index.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { bytesSha256 } from '../local/find-base.ts';

const Row = z.array(z.union([z.string(), z.number(), z.null()]));

export const BackupManifest = z.object({
  format: z.literal('graft-backup-1'),
  /** Of this backup. */
  id: z.string().regex(/^[0-9a-f]{32}$/),
  /** Unix ms, when it was begun. */
  at: z.int(),
  server: z.string(),
  /** The newest that the database had. */
  schema: z.string(),
  /** Something was changed each time that the tables were read. */
  changed: z.boolean(),
  /** In the order in which they are brought back. */
  tables: z.array(
    z.object({
      name: z.string().regex(/^[a-z_]{1,64}$/),
      columns: z.array(z.string()),
      rows: z.int().min(0),
      sha256: z.string(),
    }),
  ),
  files: z.array(
    z.object({
      digest: Digest,
      bytes: z.int().positive(),
      parts: z.array(z.object({ bytes: z.int().positive(), sha256: Digest })),
    }),
  ),
  /** Digests of files that could not be read. */
  lost: z.array(z.string()),
});
export type BackupManifest = z.infer<typeof BackupManifest>;
export type BackupFile = BackupManifest['files'][number];

export const manifestPath = (folder: string): string => path.join(folder, 'manifest.json');
export const tablePath = (folder: string, name: string): string =>
  path.join(folder, 'tables', `${name}.ndjson`);
export const filesFolder = (folder: string): string => path.join(folder, 'files');
export const filePath = (folder: string, digest: string): string => path.join(filesFolder(folder), digest);

/** What is in it opens adapters to whoever may read it: for its owner alone. */
export async function makeBackupFolder(folder: string): Promise<void> {
  for (const one of [folder, path.join(folder, 'tables'), filesFolder(folder)])
    await mkdir(one, { recursive: true, mode: 0o700 });
}

/** Whole, or not at all. */
export async function writeWhole(file: string, content: string): Promise<void> {
  await writeFile(`${file}.new`, content, { mode: 0o600 });
  await rename(`${file}.new`, file);
}

/** A backup that is being made has none: what is half there is not brought back. */
export const removeManifest = (folder: string): Promise<void> => rm(manifestPath(folder), { force: true });

/** @throws CliError when there is none, or it is none. */
export async function readManifest(folder: string): Promise<BackupManifest> {
  const file = manifestPath(folder);
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null)
    throw new CliError({
      message: `${file} is not there: this is no backup, or one that was cut off. \`graft backup ${folder}\` goes on with it.`,
      exitCode: EXIT.notFound,
      code: 'no_backup',
    });
  try {
    return BackupManifest.parse(JSON.parse(text));
  } catch {
    throw new CliError({ message: `${file} is no manifest of a backup.`, code: 'backup_damaged' });
  }
}

/** @returns its rows. @throws CliError when it is not what the manifest says. */
export async function readTable(
  folder: string,
  table: BackupManifest['tables'][number],
): Promise<(string | number | null)[][]> {
  const file = tablePath(folder, table.name);
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null || bytesSha256(text) !== table.sha256)
    throw new CliError({
      message: `${file} ${text === null ? 'is missing' : 'is damaged: its sha256 is another than the manifest says'}.`,
      code: 'backup_damaged',
    });
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line) => Row.parse(JSON.parse(line)));
}
