import { randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { BlobRecord } from '../../protocol/adapter-manifest.ts';
import type { DownloadView } from '../../protocol/admin-api/blobs.ts';
import { operationPath } from '../../protocol/admin-api/operations.ts';
import { nameProblem } from '../../protocol/identity.ts';
import { type AdapterInput, readInput } from '../adapter-files/read-input.ts';
import { type ApiClient, createApiClient, sendRetrying, callOperation } from '../api-client.ts';
import { CliError, EXIT, interruptible } from '../cli-error.ts';
import { readConnection } from '../connection.ts';
import { bytesSha256, fileSha256, usableCacheFolder } from '../local/find-base.ts';
import type { Output } from '../output.ts';

interface FetchedMember {
  name: string;
  digest: string;
  scale: number;
  /** Of its canonical file. */
  path: string;
}

export interface FetchedVersion extends Pick<DownloadView, 'name' | 'version' | 'digest' | 'base'> {
  /** Root first; only the version itself unless the whole chain was requested. */
  members: FetchedMember[];
}

/**
 * Downloads a version's own file, or those of its whole chain, into the cache, with a progress bar.
 * @param params.version default: the live one.
 * @throws CliError `insufficient_scope` (refused) when a chain member belongs to another tenant.
 */
export async function fetchVersion(params: {
  client: ApiClient;
  name: string;
  version: number | null;
  chain: boolean;
  output: Output;
}): Promise<FetchedVersion> {
  const { client, name, output } = params;
  const query = { name, ...(params.version === null ? {} : { version: String(params.version) }) };
  const view = await callOperation(client, `download ${name}`, 'GET /admin/downloads', { query });
  const wanted = params.chain ? view.chain : view.chain.slice(-1);
  const files = wanted.map(({ file, ...member }) => {
    if (file !== null) return { ...member, record: file };
    throw new CliError({
      message:
        `${name}@${view.version} depends on '${member.name}' of another tenant, whose bytes you cannot ` +
        'download.',
      exitCode: EXIT.refused,
      code: 'insufficient_scope',
    });
  });
  const total = files.reduce((sum, { record }) => sum + record.bytes, 0);
  const bar = output.progress(`${view.name}@${view.version}`);
  let done = 0;
  try {
    const members = await interruptible(async (signal) => {
      const fetched: FetchedMember[] = [];
      for (const { record, ...member } of files) {
        const onBytes = (bytes: number) => bar.update((done += bytes), total);
        const file = { name: view.name, version: view.version, digest: member.digest, record };
        fetched.push({ ...member, path: await fetchFile(client, file, { signal, onBytes }) });
      }
      return fetched;
    });
    return { name: view.name, version: view.version, digest: view.digest, base: view.base, members };
  } finally {
    bar.end();
  }
}

/** A file of a version's chain. */
interface RemoteFile {
  name: string;
  version: number;
  digest: string;
  record: BlobRecord;
}

const exists = (file: string): Promise<boolean> =>
  stat(file).then(
    () => true,
    () => false,
  );

/**
 * Downloads a canonical file into the cache, unless it is there. Parts of an interrupted download are reused;
 * each part is compared with its sha256, and the whole file with its digest. Several processes may download at
 * once: the first to finish removes the parts.
 * @param onBytes called for every part, including reused ones.
 * @returns its path. @throws CliError `damaged` when the bytes are not the file's.
 */
async function fetchFile(
  client: ApiClient,
  remote: RemoteFile,
  options: { signal: AbortSignal; onBytes: (bytes: number) => void },
): Promise<string> {
  const folder = path.join(await usableCacheFolder(process.env), 'adapters');
  const file = path.join(folder, `${remote.digest}.safetensors`);
  const draft = path.join(folder, `${remote.digest}.parts`);
  const isThere = async () => (await exists(file)) && (await fileSha256(file)) === remote.digest;
  if (await isThere()) {
    options.onBytes(remote.record.bytes);
    return file;
  }
  try {
    await assemble(client, remote, { file, draft }, options);
  } catch (error) {
    if (error instanceof CliError || !(await isThere())) throw error;
    await rm(draft, { recursive: true, force: true, maxRetries: 3 });
  }
  return file;
}

async function assemble(
  client: ApiClient,
  { name, version, digest, record }: RemoteFile,
  { file, draft }: { file: string; draft: string },
  options: { signal: AbortSignal; onBytes: (bytes: number) => void },
): Promise<void> {
  const own = `.${randomBytes(4).toString('hex')}`;
  const whole = path.join(draft, `whole${own}`);
  const parts: string[] = [];
  for (const [index, part] of record.parts.entries()) {
    const at = path.join(draft, part.sha256);
    parts.push(at);
    const before = await readFile(at).catch(() => null);
    if (before === null || bytesSha256(before) !== part.sha256) {
      const query = { name, version: String(version), digest };
      const where = operationPath('GET /admin/downloads/parts/:index', {
        params: { index: String(index) },
        query,
      });
      const what = `download ${name}@${version}`;
      const response = await sendRetrying(client, what, where, {}, { signal: options.signal });
      const bytes = new Uint8Array(await response.arrayBuffer());
      if (bytes.length !== part.bytes || bytesSha256(bytes) !== part.sha256)
        throw damaged(`Part ${index} of ${name}@${version} arrived corrupted. Try again.`);
      await mkdir(draft, { recursive: true, mode: 0o700 });
      await writeFile(at + own, bytes, { mode: 0o600 });
      await rename(at + own, at);
    }
    options.onBytes(part.bytes);
  }
  for (const part of parts)
    await pipeline(createReadStream(part), createWriteStream(whole, { flags: 'a', mode: 0o600 }));
  if ((await fileSha256(whole)) !== digest) {
    await rm(draft, { recursive: true, force: true });
    throw damaged(`The parts of ${name}@${version} do not make the file ${digest}. Try again.`);
  }
  await rename(whole, file);
  await rm(draft, { recursive: true, force: true, maxRetries: 3 });
}

const damaged = (message: string): CliError => new CliError({ message, code: 'damaged' });

const REFERENCE = /^(.*?)(?:@([1-9]\d{0,8}))?$/;

/**
 * Reads a local folder or file; otherwise downloads the published name or version.
 * @throws CliError as {@link readInput} and {@link fetchVersion}.
 */
export async function readNamed(given: string, output: Output): Promise<AdapterInput> {
  const isHere = await stat(given).then(
    () => true,
    () => false,
  );
  const [, name = '', version] = REFERENCE.exec(given) ?? [];
  if (isHere || nameProblem(name) !== null) return readInput(given);
  const { url, adminKey } = await readConnection({ env: process.env, folder: process.cwd() });
  if (url === undefined || adminKey === undefined) return readInput(given);
  const client = createApiClient({ url, key: adminKey });
  const wanted = { name, version: version === undefined ? null : Number(version), chain: false };
  const fetched = await fetchVersion({ client, output, ...wanted });
  const where = `${fetched.name}@${fetched.version}`;
  const note = `no ${given} here; using ${where} of ${url}`;
  const input = await readInput(fetched.members[0]?.path ?? '');
  return { ...input, where, notes: [note, ...input.notes] };
}
