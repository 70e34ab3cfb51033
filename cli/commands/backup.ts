import { randomBytes } from 'node:crypto';
import { readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { defineCommand } from 'citty';
import { BlobRecord, Digest, operationPath, type BackupPlan, type BackupRow } from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { facts } from '../adapter-files/module-table.ts';
import { type ApiClient, sendRetrying, callOperation } from '../api-client.ts';
import {
  filePath,
  filesFolder,
  makeBackupFolder,
  manifestPath,
  removeManifest,
  tablePath,
  writeWhole,
  type BackupFile,
  type BackupManifest,
} from '../backup/backup-folder.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { interruptible } from '../interruptible.ts';
import { bytesSha256, fileSha256 } from '../local/find-base.ts';
import { createOutput, fileSize, type Output } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft backup ./backup', does: 'writes all that the server keeps into the folder' },
    {
      line: 'graft backup ./backup --json',
      does: 'for a schedule; adapters that are there already are not sent again',
    },
  ],
};

export default defineCommand({
  meta: { name: 'backup' },
  args: {
    folder: { type: 'positional', description: 'Where it goes', required: true },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
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
        'warning: names or keys were changed each time that the tables were read; make another one when it is quiet.',
      );
    if (manifest.lost.length > 0)
      throw new CliError({
        message: `${manifest.lost.length} files could not be read; \`graft repair --blobs\` says which versions have them. All else is in the backup.`,
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

/** Tables are read again when something changes meanwhile, so often in all. */
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
  const total = plan.tables.reduce((sum, { rows }) => sum + rows, 0);
  const bar = output.progress('tables', 'rows');
  let done = 0;
  try {
    for (const { name } of plan.tables) {
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
        bar.update(done, Math.max(total, done));
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

/** What a row of `blobs` says; nothing where it is damaged. */
function fileOf(columns: readonly string[], row: BackupRow): BackupFile[] {
  const of = (name: string) => row[columns.indexOf(name)];
  try {
    const record = BlobRecord.parse({ bytes: of('bytes'), parts: JSON.parse(String(of('parts'))) });
    // It becomes the name of a file.
    return [{ digest: Digest.parse(of('digest')), ...record }];
  } catch {
    return [];
  }
}

async function fetchFiles(
  { client, folder, output, signal }: Making,
  wanted: readonly BackupFile[],
): Promise<Pick<BackupManifest, 'files' | 'lost'>> {
  const digests = new Set(wanted.map(({ digest }) => digest));
  // What was erased must not live on here.
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

/** @returns whether it is there, whole. */
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
