import { open } from 'node:fs/promises';
import { defineCommand } from 'citty';
import {
  BACKUP_PAGE_BYTES,
  MAX_BACKUP_FILES,
  MAX_BACKUP_ROWS,
  operationPath,
  type BackupRow,
} from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { facts } from '../adapter-files/module-table.ts';
import { type ApiClient, sendRetrying, callOperation } from '../api-client.ts';
import { filePath, readManifest, readTable, type BackupManifest } from '../backup/backup-folder.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { interruptible } from '../interruptible.ts';
import { bytesSha256, fileSha256 } from '../local/find-base.ts';
import { createOutput, fileSize, type Output } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft restore-backup ./backup --dry-run',
      does: 'checks the backup, and that the server is empty',
    },
    { line: 'graft restore-backup ./backup', does: 'brings it back, and tells KV' },
  ],
};

export default defineCommand({
  meta: { name: 'restore-backup' },
  args: {
    folder: { type: 'positional', description: 'Made by `graft backup`', required: true },
    'dry-run': { type: 'boolean', description: 'Check everything, and change nothing' },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const { folder } = args;
    const dryRun = args['dry-run'] === true;
    const manifest = await readManifest(folder);
    // All of it is looked at before anything is written.
    for (const table of manifest.tables) await readTable(folder, table);
    const client = await adminClient();
    const { resumed } = await callOperation(client, 'restore the backup', 'POST /admin/backup/restore', {
      body: { id: manifest.id, dry_run: dryRun },
    });
    if (resumed && !dryRun) output.note('goes on with what was begun before');
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

/** @returns how many entries KV was told of. */
async function bringBack(bringing: Bringing): Promise<number> {
  const { client, manifest, signal } = bringing;
  await bringTables(bringing);
  await bringFiles(bringing);
  // KV before the end: once that is said, whoever repeats this is refused.
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
  const ended = await callOperation(client, 'end the restoring', 'POST /admin/backup/end', {
    body: { id: manifest.id },
    retrying: { signal },
  });
  const there = new Map(ended.tables.map(({ name, rows }) => [name, rows]));
  const short = manifest.tables.filter(({ name, rows }) => (there.get(name) ?? 0) < rows && !MOVES.has(name));
  if (short.length > 0)
    throw new CliError({
      message: `Fewer rows are there than in the backup: ${short.map(({ name }) => name).join(', ')}. Somebody changed the registry meanwhile; begin anew with an empty one.`,
      exitCode: EXIT.refused,
      code: 'restore_incomplete',
    });
  return mended;
}

/** What the schedule takes away of its own accord, a little each minute. */
const MOVES: ReadonlySet<string> = new Set([
  ...['traffic', 'traffic_batches', 'request_chunks', 'origin_minutes', 'usage_batches', 'webhook_messages'],
  ...['stale_pointers', 'upkeep', 'stored_files', 'stored_parts', 'blob_parts', 'versions', 'chain_members'],
  ...['erasures', 'erasure_items', 'erasure_files'],
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

/** As many rows as one request takes. */
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
        throw damagedFile(digest, 'is damaged');
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
      if (found !== digest) throw damagedFile(digest, found === null ? 'is missing' : 'is damaged');
      done += bytes;
      bar.update(done, total);
    }
  } finally {
    bar.end();
  }
}

const damagedFile = (digest: string, how: string): CliError =>
  new CliError({ message: `The backup's file ${digest} ${how}.`, code: 'backup_damaged' });
