import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { operationPath, type BlobRecord } from '../../protocol/index.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError } from '../cli-error.ts';
import { bytesSha256, cacheFolder, fileSha256 } from '../local/find-base.ts';
import { sendRetrying } from '../publish/send-retrying.ts';

/** A file of a version's chain. */
export interface RemoteFile {
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
 * Brings a canonical file into the cache, unless it is there. Parts that are there from a download that broke off are not
 * sent again; each is compared with its sha256, and the whole file with its digest.
 * @param onBytes told of every part, also of those that were there.
 * @returns its path. @throws CliError `damaged` when what arrives is not the file.
 */
export async function fetchFile(
  client: ApiClient,
  { name, version, digest, record }: RemoteFile,
  options: { signal: AbortSignal; onBytes: (bytes: number) => void },
): Promise<string> {
  const folder = path.join(cacheFolder(process.env), 'adapters');
  const file = path.join(folder, `${digest}.safetensors`);
  if ((await exists(file)) && (await fileSha256(file)) === digest) {
    options.onBytes(record.bytes);
    return file;
  }
  const draft = path.join(folder, `${digest}.parts`);
  await mkdir(draft, { recursive: true, mode: 0o700 });
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
        throw damaged(`Part ${index} of ${name}@${version} arrived damaged: try again.`);
      await writeFile(`${at}.new`, bytes, { mode: 0o600 });
      await rename(`${at}.new`, at);
    }
    options.onBytes(part.bytes);
  }
  const whole = path.join(draft, 'whole');
  await rm(whole, { force: true });
  for (const part of parts)
    await pipeline(createReadStream(part), createWriteStream(whole, { flags: 'a', mode: 0o600 }));
  if ((await fileSha256(whole)) !== digest) {
    await rm(draft, { recursive: true, force: true });
    throw damaged(`The parts of ${name}@${version} are not the file ${digest}: try again.`);
  }
  await rename(whole, file);
  await rm(draft, { recursive: true, force: true });
  return file;
}

const damaged = (message: string): CliError => new CliError({ message, code: 'damaged' });
