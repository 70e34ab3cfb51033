/**
 * Downloads a base or an adapter from the Hugging Face Hub into the cache: resumable, verified, and usable offline
 * afterwards.
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { pipeline } from 'node:stream/promises';
import { downloadFile, HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { z } from 'zod';
import { CliError } from '../cli-error.ts';
import { usageError } from '../flags.ts';
import type { Output } from '../output.ts';
import { leavePartial, ownPartial, sizeOf, takeOver } from './partial-files.ts';
import type { Repository, RepositoryContent, RepositoryFile } from './repository.ts';

/** List of downloaded files, written when all of them are there. */
const MANIFEST = '.fetched.json';
const Manifest = z.object({
  load: z.string(),
  files: z.array(z.object({ path: z.string(), size: z.int() })),
});
const COMMIT = /^[0-9a-f]{40}$/;

type Env = Record<string, string | undefined>;

interface Hub {
  hubUrl?: string;
  accessToken?: string;
  fetch?: typeof fetch;
}

/** HF_ENDPOINT and HF_TOKEN, as in Hugging Face's own tools. */
function hubOf(env: Env, signal: AbortSignal | undefined): Hub {
  const token = env['HF_TOKEN']?.trim();
  if (token && !token.startsWith('hf_'))
    throw usageError('HF_TOKEN must start with hf_, like all tokens of the hub.');
  return {
    ...(env['HF_ENDPOINT'] ? { hubUrl: env['HF_ENDPOINT'].replace(/\/+$/, '') } : {}),
    ...(token ? { accessToken: token } : {}),
    ...(signal === undefined ? {} : { fetch: (url, init) => fetch(url, { ...init, signal }) }),
  };
}

const isOffline = (env: Env): boolean =>
  ['1', 'true', 'yes', 'on'].includes(env['HF_HUB_OFFLINE']?.toLowerCase() ?? '');

/**
 * @param params.cache see `cacheFolder`; what is fetched lies in `<content.folder>/hf/` there, by commit.
 * @returns the folder or file to load, and the commit that it is of.
 * @throws CliError
 */
export async function fetchRepository(params: {
  from: Repository;
  content: RepositoryContent;
  cache: string;
  env: Env;
  output: Output;
  signal?: AbortSignal;
}): Promise<{ path: string; commit: string }> {
  const { from, content, cache, env, output, signal } = params;
  const home = path.join(cache, content.folder, 'hf', from.repository.replace('/', '--'));
  const reference = path.join(home, 'refs', encodeURIComponent(from.revision));
  const hub = hubOf(env, signal);
  const failed = failing(from, content);
  const known = COMMIT.test(from.revision)
    ? from.revision
    : await readFile(reference, 'utf8').catch(() => null);
  const placeOf = (commit: string): string => path.join(home, commit, path.basename(from.repository));
  const loadable = known === null ? null : await fetched(placeOf(known), from);
  const held = known === null || loadable === null ? null : { path: loadable, commit: known };
  if (held !== null && (isOffline(env) || COMMIT.test(from.revision))) return held;
  if (isOffline(env)) throw failed('HF_HUB_OFFLINE is set, and it is not in the cache');
  let commit: string;
  try {
    commit = await commitOf(from, hub);
  } catch (error) {
    signal?.throwIfAborted();
    const reason = reasonOf(error, hub);
    if (held === null || !isAway(error)) throw failed(reason);
    output.note(`${from.repository}: ${reason}; using ${from.revision} from an earlier download.`);
    return held;
  }
  const folder = placeOf(commit);
  const current = await fetched(folder, from);
  if (current === null)
    await download({ from, content, hub, commit, folder, output }).catch((error: unknown) => {
      signal?.throwIfAborted();
      throw error;
    });
  await mkdir(path.dirname(reference), { recursive: true });
  await writeFile(reference, commit);
  return { path: (await fetched(folder, from)) ?? folder, commit };
}

/** @returns what to load, when all files are there with the right sizes. */
async function fetched(folder: string, from: Repository): Promise<string | null> {
  const text = await readFile(path.join(folder, manifestName(from)), 'utf8').catch(() => null);
  const manifest = text === null ? null : parseManifest(text);
  if (manifest === null) return null;
  for (const file of manifest.files)
    if ((await sizeOf(path.join(folder, file.path))) !== file.size) return null;
  return path.join(folder, manifest.load);
}

/** @returns null for a truncated one, after a full disk or a power cut. */
function parseManifest(text: string): z.infer<typeof Manifest> | null {
  try {
    return Manifest.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

const manifestName = ({ file }: Repository): string =>
  file === null ? MANIFEST : `.${encodeURIComponent(file)}${MANIFEST}`;

async function commitOf({ repository, revision }: Repository, hub: Hub): Promise<string> {
  const { sha } = await modelInfo({ name: repository, revision, additionalFields: ['sha'], ...hub });
  if (typeof sha !== 'string' || !COMMIT.test(sha)) throw new Error('the hub names no commit');
  return sha;
}

async function download(params: {
  from: Repository;
  content: RepositoryContent;
  hub: Hub;
  commit: string;
  folder: string;
  output: Output;
}): Promise<void> {
  const { from, content, hub, commit, folder, output } = params;
  const repo = { type: 'model' as const, name: from.repository };
  try {
    const there: RepositoryFile[] = [];
    for await (const { type, path: name, size, oid, lfs } of listFiles({
      repo,
      revision: commit,
      recursive: true,
      ...hub,
    }))
      if (type === 'file' && isSafe(name))
        there.push({
          path: name,
          size: lfs?.size ?? size,
          sha256: lfs?.oid ?? null,
          blobId: lfs ? null : (oid ?? null),
        });
    const { files, load } = content.choose(from, there);
    const total = files.reduce((sum, { size }) => sum + size, 0);
    const progress = output.progress(`${content.what} ${from.repository}`);
    let before = 0;
    try {
      for (const file of files) {
        await fetchFile({
          repo,
          commit,
          file,
          target: path.join(folder, file.path),
          hub,
          onBytes: (done) => progress.update(before + done, total),
        });
        before += file.size;
      }
    } finally {
      progress.end();
    }
    const manifest = { load, files: files.map(({ path: name, size }) => ({ path: name, size })) };
    const written = path.join(folder, manifestName(from));
    const partial = ownPartial(written);
    await writeFile(partial, JSON.stringify(manifest));
    await rename(partial, written);
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw failing(
      from,
      content,
    )(`${reasonOf(error, hub)}; the downloaded part is kept, and the next attempt continues from there`);
  }
}

/** Names come from the hub: none may leave the folder. */
const isSafe = (name: string): boolean =>
  !path.isAbsolute(name) && name.split(/[/\\]/).every((part) => part !== '' && !part.startsWith('.'));

async function fetchFile(params: {
  repo: { type: 'model'; name: string };
  commit: string;
  file: RepositoryFile;
  target: string;
  hub: Hub;
  onBytes: (done: number) => void;
}): Promise<void> {
  const { repo, commit, file, target, hub, onBytes } = params;
  if ((await sizeOf(target)) === file.size && (await isRight(target, file))) return onBytes(file.size);
  await mkdir(path.dirname(target), { recursive: true });
  const partial = ownPartial(target);
  await takeOver(target, partial);
  try {
    let done = Math.max(0, await sizeOf(partial));
    if (done > file.size) done = 0;
    if (done < file.size || file.size === 0) {
      const blob = await downloadFile({ repo, path: file.path, revision: commit, xet: false, ...hub });
      if (blob === null) throw new Error(`${file.path} no longer exists`);
      const stream = Readable.fromWeb(blob.slice(done).stream() as ReadableStream);
      stream.on('data', (chunk: Uint8Array) => onBytes((done += chunk.length)));
      await pipeline(stream, createWriteStream(partial, { flags: done === 0 ? 'w' : 'a' }));
    }
    if ((await sizeOf(partial)) !== file.size) throw new Error(`${file.path} ended early`);
    if (!(await isRight(partial, file))) {
      await rm(partial, { force: true });
      throw new Error(`the sha256 of ${file.path} is not the hub's; the download was discarded`);
    }
    await rename(partial, target);
  } catch (error) {
    await leavePartial(target, partial);
    throw error;
  }
}

/** Whether a file has the hub's content, by sha256, or by git's hash. */
async function isRight(file: string, { size, sha256, blobId }: RepositoryFile): Promise<boolean> {
  if (sha256 === null && blobId === null) return true;
  const hash = sha256 === null ? createHash('sha1').update(`blob ${size}\0`) : createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex') === (sha256 ?? blobId);
}

/** The hub does not answer, for now: use the earlier download. */
const isAway = (error: unknown): boolean =>
  error instanceof TypeError ||
  (error instanceof HubApiError && (error.statusCode >= 500 || error.statusCode === 429));

function reasonOf(error: unknown, hub: Hub): string {
  if (error instanceof HubApiError) {
    const { statusCode } = error;
    if (statusCode === 401 || statusCode === 403)
      return hub.accessToken === undefined
        ? 'it does not exist or needs a token: set HF_TOKEN'
        : 'HF_TOKEN may not read it. Accept its terms on its page, or use another token';
    return statusCode === 404 ? 'no such repository or revision' : `the hub answered ${statusCode}`;
  }
  if (error instanceof TypeError)
    return `the hub cannot be reached (${String((error.cause as Error | undefined)?.message ?? error.message)})`;
  return error instanceof Error ? error.message : String(error);
}

const failing =
  ({ repository, revision }: Repository, { code }: RepositoryContent) =>
  (reason: string): CliError =>
    new CliError({ message: `Could not download ${repository}@${revision}: ${reason}.`, code });
