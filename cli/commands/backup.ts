/**
 * Backup of everything that a server keeps, and restore: `manifest.json`, `tables/<name>.ndjson`,
 * `files/<digest>`.
 */
import { mkdir, readFile, rename, rm, writeFile, readdir, stat, open } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { BlobRecord } from '../../protocol/adapter-manifest.ts';
import {
  type BackupPlan,
  type BackupRow,
  BACKUP_PAGE_BYTES,
  MAX_BACKUP_FILES,
  MAX_BACKUP_ROWS,
} from '../../protocol/admin-api/backup.ts';
import { operationPath } from '../../protocol/admin-api/operations.ts';
import { Digest } from '../../protocol/identity.ts';
import { CliError, EXIT, interruptible } from '../cli-error.ts';
import { bytesSha256, fileSha256 } from '../local/find-base.ts';
import { randomBytes } from 'node:crypto';
import { adminClient } from '../admin/admin-client.ts';
import { facts } from '../adapter-files/module-table.ts';
import { type ApiClient, sendRetrying, callOperation } from '../api-client.ts';
import { command } from '../command.ts';
import { fileSize, type Output } from '../output.ts';

const Row = z.array(z.union([z.string(), z.number(), z.null()]));

export const BackupManifest = z.object({
  format: z.literal('graft-backup-1'),
  /** Id of this backup. */
  id: z.string().regex(/^[0-9a-f]{32}$/),
  /** Unix ms, when it was started. */
  at: z.int(),
  server: z.string(),
  /** The schema of the database. */
  schema: z.string(),
  /** Something changed during every attempt to read the tables. */
  changed: z.boolean(),
  /** In the order in which they must be restored. */
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

/** A backup opens adapters to anyone who can read it, so only its owner may. */
export async function makeBackupFolder(folder: string): Promise<void> {
  for (const one of [folder, path.join(folder, 'tables'), filesFolder(folder)])
    await mkdir(one, { recursive: true, mode: 0o700 });
}

/** Written completely, or not at all. */
export async function writeWhole(file: string, content: string): Promise<void> {
  await writeFile(`${file}.new`, content, { mode: 0o600 });
  await rename(`${file}.new`, file);
}

/** Missing while a backup is being made: an incomplete one cannot be restored. */
export const removeManifest = (folder: string): Promise<void> => rm(manifestPath(folder), { force: true });

/** @throws CliError when it is missing or invalid. */
export async function readManifest(folder: string): Promise<BackupManifest> {
  const file = manifestPath(folder);
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null)
    throw new CliError({
      message:
        `${file} is missing: this is not a backup, or an incomplete one. Run \`graft backup ${folder}\` ` +
        'to complete it.',
      exitCode: EXIT.notFound,
      code: 'no_backup',
    });
  try {
    return BackupManifest.parse(JSON.parse(text));
  } catch {
    throw new CliError({ message: `${file} is not a backup manifest.`, code: 'backup_damaged' });
  }
}

/** @returns its rows. @throws CliError when they differ from the manifest. */
export async function readTable(
  folder: string,
  table: BackupManifest['tables'][number],
): Promise<(string | number | null)[][]> {
  const file = tablePath(folder, table.name);
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null || bytesSha256(text) !== table.sha256)
    throw new CliError({
      message: `${file} ${text === null ? 'is missing' : 'is corrupted: its sha256 is not the one in the manifest'}.`,
      code: 'backup_damaged',
    });
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line) => Row.parse(JSON.parse(line)));
}

export const backupCommand = command({
  verb: 'backup',
  examples: [
    { line: 'graft backup ./backup', does: 'writes everything that the server keeps into the folder' },
    {
      line: 'graft backup ./backup --json',
      does: 'for a schedule; adapters that are there already are not downloaded again',
    },
  ],
  args: {
    folder: { type: 'positional', description: 'Where to write it', required: true },
  },
  async run({ args, output }) {
    const client = await adminClient();
    const { folder } = args;
    await makeBackupFolder(folder);
    await removeManifest(folder);
    const manifest = await interruptible((signal) => makeBackup({ client, folder, output, signal }));
    const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0);
    const told = { folder, tables: manifest.tables.length, rows, files: manifest.files.length, bytes };
    output.result({ ...told, changed: manifest.changed, lost: manifest.lost }, () =>
      facts([
        ['wrote', manifestPath(folder)],
        ['tables', `${told.tables}, ${rows} rows`],
        ['files', `${told.files}, ${fileSize(bytes)}`],
      ]),
    );
    if (manifest.changed)
      output.note(
        'warning: names or keys changed during every attempt to read the tables. Make another backup ' +
          'when the server is quiet.',
      );
    if (manifest.lost.length > 0)
      throw new CliError({
        message:
          `${manifest.lost.length} files could not be read; \`graft repair --blobs\` lists the versions ` +
          'that use them. Everything else is in the backup.',
        exitCode: EXIT.unavailable,
        code: 'files_lost',
      });
  },
});

interface Making {
  client: ApiClient;
  folder: string;
  output: Output;
  signal: AbortSignal;
}

/** How often tables are read again if something changes in the meantime. */
const TRIES = 3;

async function makeBackup(making: Making): Promise<BackupManifest> {
  const { client, folder } = making;
  const at = Date.now();
  const retrying = { signal: making.signal };
  const plan = () => callOperation(client, 'read the registry', 'GET /admin/backup', { retrying });
  let before = await plan();
  let read = await readTables(making, before);
  let after = await plan();
  for (let tries = 1; after.mark !== before.mark && tries < TRIES; tries += 1) {
    before = after;
    read = await readTables(making, before);
    after = await plan();
  }
  const { files, lost } = await fetchFiles(making, read.files);
  const manifest: BackupManifest = {
    ...{ format: 'graft-backup-1', id: randomBytes(16).toString('hex'), at, server: client.url },
    ...{ schema: before.schema, changed: after.mark !== before.mark, tables: read.tables, files, lost },
  };
  await writeWhole(manifestPath(folder), `${JSON.stringify(manifest, null, 2)}\n`);
  return manifest;
}

async function readTables(
  { client, folder, output, signal }: Making,
  plan: BackupPlan,
): Promise<Pick<BackupManifest, 'tables' | 'files'>> {
  const tables: BackupManifest['tables'] = [];
  const files: BackupFile[] = [];
  const bar = output.progress('tables', 'steps');
  let done = 0;
  try {
    for (const [at, { name }] of plan.tables.entries()) {
      const lines: string[] = [];
      let columns: string[] = [];
      for (let cursor: string | undefined; ;) {
        const page = await callOperation(client, `read table ${name}`, 'GET /admin/backup/rows', {
          query: { table: name, cursor },
          retrying: { signal },
        });
        ({ columns } = page);
        lines.push(...page.rows.map((row) => JSON.stringify(row)));
        if (name === 'blobs') files.push(...page.rows.flatMap((row) => fileOf(columns, row)));
        done += page.rows.length;
        bar.update(at, plan.tables.length, `${done} rows`);
        if (page.cursor === null) break;
        ({ cursor } = page);
      }
      const text = lines.map((line) => `${line}\n`).join('');
      await writeWhole(tablePath(folder, name), text);
      tables.push({ name, columns, rows: lines.length, sha256: bytesSha256(text) });
    }
    return { tables, files };
  } finally {
    bar.end();
  }
}

/** The content of a row of `blobs`; nothing if it is corrupted. */
function fileOf(columns: readonly string[], row: BackupRow): BackupFile[] {
  const of = (name: string) => row[columns.indexOf(name)];
  try {
    // It becomes a file name.
    const digest = Digest.parse(of('digest'));
    // A file in one piece has its own hash.
    const parts = z.array(z.looseObject({})).parse(JSON.parse(String(of('parts'))));
    const record = { bytes: of('bytes'), parts: parts.map((part) => ({ sha256: digest, ...part })) };
    return [{ digest, ...BlobRecord.parse(record) }];
  } catch {
    return [];
  }
}

async function fetchFiles(
  { client, folder, output, signal }: Making,
  wanted: readonly BackupFile[],
): Promise<Pick<BackupManifest, 'files' | 'lost'>> {
  const digests = new Set(wanted.map(({ digest }) => digest));
  // Erased files must not survive here.
  for (const name of await readdir(filesFolder(folder)))
    if (!digests.has(name)) await rm(path.join(filesFolder(folder), name), { force: true });
  const total = wanted.reduce((sum, { bytes }) => sum + bytes, 0);
  const bar = output.progress('files');
  const files: BackupFile[] = [];
  const lost: string[] = [];
  let done = 0;
  try {
    for (const file of wanted) {
      if (await fetchFile({ client, folder, signal }, file)) files.push(file);
      else lost.push(file.digest);
      done += file.bytes;
      bar.update(done, total);
    }
    return { files, lost };
  } finally {
    bar.end();
  }
}

/** @returns whether it exists and is complete. */
async function fetchFile(
  { client, folder, signal }: Pick<Making, 'client' | 'folder' | 'signal'>,
  { digest, bytes, parts }: BackupFile,
): Promise<boolean> {
  const file = filePath(folder, digest);
  const size = await stat(file).then(
    (found) => found.size,
    () => -1,
  );
  if (size === bytes && (await fileSha256(file)) === digest) return true;
  await rm(`${file}.new`, { force: true });
  for (const [index, part] of parts.entries()) {
    const where = operationPath('GET /admin/backup/parts/:digest', {
      params: { digest },
      query: { index: String(index) },
    });
    try {
      const response = await sendRetrying(client, `fetch ${digest.slice(0, 12)}`, where, {}, { signal });
      const content = new Uint8Array(await response.arrayBuffer());
      if (bytesSha256(content) !== part.sha256) return false;
      await writeFile(`${file}.new`, content, { flag: 'a', mode: 0o600 });
    } catch (error) {
      if (!(error instanceof CliError) || error.code !== 'adapter_unavailable') throw error;
      return false;
    }
  }
  if ((await fileSha256(`${file}.new`)) !== digest) return false;
  await rename(`${file}.new`, file);
  return true;
}

export const restoreBackupCommand = command({
  verb: 'restore-backup',
  examples: [
    {
      line: 'graft restore-backup ./backup --dry-run',
      does: 'checks the backup, and that the server is empty',
    },
    { line: 'graft restore-backup ./backup', does: 'restores it, and writes KV' },
  ],
  args: {
    folder: { type: 'positional', description: 'Written by `graft backup`', required: true },
    'dry-run': { type: 'boolean', description: 'Check everything, but change nothing' },
  },
  async run({ args, output }) {
    const { folder } = args;
    const dryRun = args['dry-run'] === true;
    const manifest = await readManifest(folder);
    // Everything is checked before anything is written.
    for (const table of manifest.tables) await readTable(folder, table);
    const client = await adminClient();
    const { resumed } = await callOperation(client, 'restore the backup', 'POST /admin/backup/restore', {
      body: { id: manifest.id, dry_run: dryRun },
    });
    if (resumed && !dryRun) output.note('continues an earlier restore');
    const bytes = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0);
    if (dryRun) await checkFiles(folder, manifest, output);
    const mended = dryRun
      ? 0
      : await interruptible((signal) => bringBack({ client, folder, manifest, output, signal }));
    const told = { tables: manifest.tables.length, rows, files: manifest.files.length, bytes, mended };
    output.result({ dry_run: dryRun, resumed, ...told }, () =>
      facts([
        [
          dryRun ? 'dry run: would be restored' : 'restored',
          `backup of ${new Date(manifest.at).toISOString()}`,
        ],
        ['tables', `${told.tables}, ${rows} rows`],
        ['files', `${told.files}, ${fileSize(bytes)}`],
        ...(dryRun ? [] : [['entries in KV', String(mended)] as [string, string]]),
      ]),
    );
  },
});

interface Bringing {
  client: ApiClient;
  folder: string;
  manifest: BackupManifest;
  output: Output;
  signal: AbortSignal;
}

/** @returns the number of entries written to KV. */
async function bringBack(bringing: Bringing): Promise<number> {
  const { client, manifest, signal } = bringing;
  await bringTables(bringing);
  await bringFiles(bringing);
  // KV before the end: once the restore has ended, a repetition is refused.
  let mended = 0;
  for (let cursor: string | null = null; ;) {
    const page: { mended: unknown[]; cursor: string | null } = await callOperation(
      client,
      'write KV',
      'POST /admin/repair',
      { body: { cursor }, retrying: { signal } },
    );
    mended += page.mended.length;
    if (page.cursor === null) break;
    ({ cursor } = page);
  }
  const ended = await callOperation(client, 'end the restore', 'POST /admin/backup/end', {
    body: { id: manifest.id },
    retrying: { signal },
  });
  const there = new Map(ended.tables.map(({ name, rows }) => [name, rows]));
  const short = manifest.tables.filter(({ name, rows }) => (there.get(name) ?? 0) < rows && !MOVES.has(name));
  if (short.length > 0)
    throw new CliError({
      message:
        `Fewer rows were restored than the backup has: ${short.map(({ name }) => name).join(', ')}. ` +
        'Somebody changed the registry in the meantime. Start over with an empty one.',
      exitCode: EXIT.refused,
      code: 'restore_incomplete',
    });
  return mended;
}

/** Garbage that the schedule removes by itself, a little each minute. */
const MOVES: ReadonlySet<string> = new Set([
  ...['traffic', 'origin_minutes', 'usage_batches', 'webhook_messages', 'origin_absences'],
  ...['stale_pointers', 'upkeep', 'stored_files', 'stored_parts', 'blob_parts', 'versions', 'chain_members'],
  ...['erasures', 'erasure_items', 'erasure_files'],
  // Beside the files, which are not counted.
  'proofs',
]);

async function bringTables({ client, folder, manifest, output, signal }: Bringing): Promise<void> {
  const total = manifest.tables.reduce((sum, { rows }) => sum + rows, 0);
  const bar = output.progress('tables', 'rows');
  let done = 0;
  try {
    for (const table of manifest.tables) {
      for (const rows of pagesOf(await readTable(folder, table))) {
        await callOperation(client, `restore table ${table.name}`, 'POST /admin/backup/rows', {
          body: { id: manifest.id, table: table.name, columns: table.columns, rows },
          retrying: { signal },
        });
        done += rows.length;
        bar.update(done, total);
      }
    }
  } finally {
    bar.end();
  }
}

/** As many rows as one request accepts. */
function* pagesOf(rows: readonly BackupRow[]): Generator<BackupRow[]> {
  let page: BackupRow[] = [];
  let bytes = 0;
  for (const row of rows) {
    const more = Buffer.byteLength(JSON.stringify(row));
    if (page.length === MAX_BACKUP_ROWS || (page.length > 0 && bytes + more > BACKUP_PAGE_BYTES)) {
      yield page;
      [page, bytes] = [[], 0];
    }
    page.push(row);
    bytes += more;
  }
  if (page.length > 0) yield page;
}

async function bringFiles({ client, folder, manifest, output, signal }: Bringing): Promise<void> {
  const { files, id } = manifest;
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const bar = output.progress('files');
  let done = 0;
  try {
    for (let from = 0; from < files.length; from += MAX_BACKUP_FILES) {
      const some = files.slice(from, from + MAX_BACKUP_FILES);
      const { missing } = await callOperation(client, 'look for files', 'POST /admin/backup/files', {
        body: { id, digests: some.map(({ digest }) => digest) },
        retrying: { signal },
      });
      for (const file of some) {
        if (missing.includes(file.digest)) await sendFile({ client, folder, id, signal }, file);
        done += file.bytes;
        bar.update(done, total);
      }
    }
  } finally {
    bar.end();
  }
}

async function sendFile(
  { client, folder, id, signal }: Pick<Bringing, 'client' | 'folder' | 'signal'> & { id: string },
  { digest, parts }: BackupManifest['files'][number],
): Promise<void> {
  const handle = await open(filePath(folder, digest)).catch(() => null);
  if (handle === null) throw damagedFile(digest, 'is missing');
  try {
    let position = 0;
    for (const [index, part] of parts.entries()) {
      const bytes = new Uint8Array(part.bytes);
      const { bytesRead } = await handle.read(bytes, 0, part.bytes, position);
      if (bytesRead !== part.bytes || bytesSha256(bytes) !== part.sha256)
        throw damagedFile(digest, 'is corrupted');
      position += part.bytes;
      const where = operationPath('PUT /admin/backup/parts/:digest', {
        params: { digest },
        query: { index: String(index), restore: id },
      });
      const init = { method: 'PUT', body: bytes, headers: { 'content-type': 'application/octet-stream' } };
      const sent = await sendRetrying(client, `restore ${digest.slice(0, 12)}`, where, init, { signal });
      await sent.body?.cancel();
    }
  } finally {
    await handle.close();
  }
}

async function checkFiles(folder: string, { files }: BackupManifest, output: Output): Promise<void> {
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const bar = output.progress('files');
  let done = 0;
  try {
    for (const { digest, bytes } of files) {
      const found = await fileSha256(filePath(folder, digest)).catch(() => null);
      if (found !== digest) throw damagedFile(digest, found === null ? 'is missing' : 'is corrupted');
      done += bytes;
      bar.update(done, total);
    }
  } finally {
    bar.end();
  }
}

const damagedFile = (digest: string, how: string): CliError =>
  new CliError({ message: `The backup's file ${digest} ${how}.`, code: 'backup_damaged' });
