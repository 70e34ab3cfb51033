/**
 * Fetches an adapter from elsewhere into the cache: of a repository of the Hugging Face Hub (`hf:`), by HTTPS, or of a
 * bucket that speaks S3's protocol (`s3:`). An interrupted download goes on, and what has not changed is not sent again.
 */
import { createWriteStream } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable, Transform } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { pipeline } from 'node:stream/promises';
import { AwsClient } from 'aws4fetch';
import { CliError, EXIT } from '../cli-error.ts';
import { isThisMachine } from '../connection.ts';
import { usageError } from '../flags.ts';
import { bytesSha256, fileSha256, usableCacheFolder } from '../local/find-base.ts';
import { leavePartial, ownPartial, sizeOf, takeOver } from '../local/partial-files.ts';
import { parseRepository, type RepositoryContent, type RepositoryFile } from '../local/repository.ts';
import type { Output } from '../output.ts';
import { TRAINING_FILE } from '../../protocol/training.ts';
import { CONFIG, MAX_CONFIG_BYTES, MAX_WEIGHTS_BYTES, NOT_A_MODEL, WEIGHTS } from './read-input.ts';

type Env = Record<string, string | undefined>;

interface Fetching {
  env: Env;
  output: Output;
  signal?: AbortSignal;
}

/** What is fetched lies here in the cache. */
const FOLDER = 'adapters';
const CODE = 'adapter_unavailable';

/**
 * @param given a path, which is returned as it is, `hf:<owner>/<name>[/<folder or file>][@<revision>]`, or the address of
 * a file or folder by `https:` or `s3:`, with `#sha256=<hex>` if the weights must have this hash.
 * @returns a folder or file that `readInput` reads.
 * @throws CliError `adapter_unavailable`, or `adapter_invalid` (refused) for what is too large or has another hash.
 */
export async function fetchAdapter(given: string, fetching: Fetching): Promise<string> {
  const { env, output } = fetching;
  const from = parseRepository(given);
  if (from === 'malformed')
    throw usageError(`${given}: use hf:<owner>/<name>[/<folder or file>][@<revision>].`);
  if (from !== null) {
    const cache = await usableCacheFolder(env);
    const { fetchRepository } = await import('../local/fetch-repository.ts');
    const fetched = await fetchRepository({ from, content: ADAPTER, cache, ...fetching });
    if (from.revision !== fetched.commit)
      output.note(
        `${from.repository} at ${from.revision} is commit ${fetched.commit}; with @${fetched.commit} the same adapter is ` +
          'taken again.',
      );
    return fetched.path;
  }
  return /^(?:https?|s3):\/\//i.test(given) ? fetchAddress(given, fetching) : given;
}

const isWeights = (name: string): boolean => /\.(?:safetensors|gguf)$/.test(name);

/** The adapter in a repository: the file or folder that is named, else the only folder with weights. */
const ADAPTER: RepositoryContent = {
  what: 'adapter',
  folder: FOLDER,
  code: CODE,
  choose({ repository, file }, files) {
    const chosen = chooseAdapter(repository, file, files);
    for (const { path: name, size } of chosen.files) {
      const most = isWeights(name) ? MAX_WEIGHTS_BYTES : MAX_CONFIG_BYTES;
      if (size > most) throw tooLarge(`${repository}/${name}`, size, most);
    }
    return chosen;
  },
};

function chooseAdapter(
  repository: string,
  file: string | null,
  files: readonly RepositoryFile[],
): { files: RepositoryFile[]; load: string } {
  const folderOf = (name: string): string => path.posix.dirname(name);
  const isOneOf = (one: RepositoryFile, names: readonly string[]): boolean =>
    names.includes(path.posix.basename(one.path));
  const beside = (folder: string, names: readonly string[]): RepositoryFile[] =>
    files.filter((one) => folderOf(one.path) === folder && isOneOf(one, names));
  if (file !== null && isWeights(file)) {
    const weights = files.find((one) => one.path === file);
    if (weights === undefined) throw usageError(`hf:${repository} has no ${file}.`);
    return { files: [weights, ...beside(folderOf(file), [CONFIG])], load: file };
  }
  const folders = [...new Set(files.filter((one) => isOneOf(one, WEIGHTS)).map((one) => folderOf(one.path)))];
  const wanted = file ?? (folders.includes('.') || folders.length !== 1 ? '.' : folders[0]!);
  if (!folders.includes(wanted)) {
    const others = [...folders, ...files.filter((one) => one.path.endsWith('.gguf')).map((one) => one.path)];
    throw usageError(
      `hf:${repository}${file === null ? '' : `/${file}`} has neither ${WEIGHTS.join(' nor ')}. ` +
        (others.length === 0
          ? 'It is no adapter that PEFT or mlx-lm wrote.'
          : `Choose one of ${others.map((one) => `hf:${repository}/${one}`).join(', ')}.`),
    );
  }
  return { files: beside(wanted, [CONFIG, TRAINING_FILE, ...WEIGHTS]), load: wanted === '.' ? '' : wanted };
}

/** Sends a request, signed if the bucket needs that. */
type Ask = (url: URL, headers: Record<string, string>) => Promise<Response>;

async function fetchAddress(given: string, fetching: Fetching): Promise<string> {
  const { url, ask, sha256 } = readAddress(given, fetching);
  const cache = await usableCacheFolder(fetching.env);
  // Without what may be a secret.
  const place = bytesSha256(
    `${url.origin}${path.posix.dirname(`${url.pathname}.`)}${url.search === '' ? '' : '?'}`,
  );
  const folder = path.join(cache, FOLDER, 'https', place.slice(0, 32));
  await mkdir(folder, { recursive: true });
  const get = async (name: string, at: URL): Promise<string | null> => {
    const target = path.join(folder, name);
    const most = isWeights(name) ? MAX_WEIGHTS_BYTES : MAX_CONFIG_BYTES;
    return (await fetchFile({ url: at, target, most, ask, ...fetching })) ? target : null;
  };
  const near = (name: string): Promise<string | null> => get(name, new URL(name, url));
  const name = path.posix.basename(url.pathname);
  let weights: string | null = null;
  if (url.pathname.endsWith('/')) {
    await near(CONFIG);
    for (const one of WEIGHTS) weights ??= await near(one);
    if (weights === null) throw unavailable(url, `it has neither ${WEIGHTS.join(' nor ')}`);
  } else {
    if (!isWeights(name) || name.startsWith('.'))
      throw usageError(`${shown(url)}: give a .safetensors or .gguf file, or a folder with / at its end.`);
    // An address with a signature is of one file alone.
    if (url.search === '' && name.endsWith('.safetensors')) await near(CONFIG);
    weights = await get(name, url);
    if (weights === null) throw unavailable(url, 'there is no such file');
  }
  if (sha256 !== null) await checkSha256(weights, sha256, url);
  return url.pathname.endsWith('/') ? folder : weights;
}

/** @throws CliError (usage) */
function readAddress(
  given: string,
  { env, signal }: Fetching,
): { url: URL; ask: Ask; sha256: string | null } {
  const [address = '', fragment] = given.split('#', 2);
  const sha256 =
    fragment === undefined ? null : (/^sha256=([0-9a-f]{64})$/i.exec(fragment)?.[1]?.toLowerCase() ?? null);
  if (fragment !== undefined && sha256 === null)
    throw usageError('Behind # only sha256=<64 hex digits> of the weights is known.');
  const ask: Ask = (to, headers) => fetch(to, { headers, ...ending(signal) });
  if (address.startsWith('s3://')) {
    const { url, region } = bucketAddress(address, env);
    const [accessKeyId, secretAccessKey] = [env['AWS_ACCESS_KEY_ID'], env['AWS_SECRET_ACCESS_KEY']];
    if (!accessKeyId || !secretAccessKey) return { url, ask, sha256 };
    const sessionToken = env['AWS_SESSION_TOKEN'];
    const signer = new AwsClient({
      accessKeyId,
      secretAccessKey,
      ...(sessionToken ? { sessionToken } : {}),
      service: 's3',
      region,
    });
    return {
      url,
      ask: async (to, headers) => fetch(await signer.sign(to.href, { headers }), ending(signal)),
      sha256,
    };
  }
  if (!URL.canParse(address)) throw usageError(`${address.split('?')[0]}: this is no address.`);
  const url = new URL(address);
  if (url.username !== '' || url.password !== '')
    throw usageError(
      `${shown(url)}: an address with a password would end up in logs. Use a signed one, or s3://.`,
    );
  if (!isPrivate(url))
    throw usageError(`${shown(url)}: use https://, so that nobody can change the adapter on its way.`);
  return { url, ask, sha256 };
}

/** Nobody else can read or change it. */
const isPrivate = (url: URL): boolean => url.protocol === 'https:' || isThisMachine(url);

/** `s3://<bucket>/<key>`, with the variables of AWS's own tools. */
function bucketAddress(address: string, env: Env): { url: URL; region: string } {
  const [, bucket = '', key = ''] = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,62})\/(.+)$/.exec(address) ?? [];
  if (bucket === '') throw usageError(`${address}: use s3://<bucket>/<key>, with / at its end for a folder.`);
  const endpoint = env['AWS_ENDPOINT_URL_S3'] || env['AWS_ENDPOINT_URL'];
  const region = env['AWS_REGION'] || env['AWS_DEFAULT_REGION'] || (endpoint ? 'auto' : 'us-east-1');
  const host = endpoint ? endpoint.replace(/\/+$/, '') : `https://s3.${region}.amazonaws.com`;
  const safe = key.split('/').map(encodeURIComponent).join('/');
  if (!URL.canParse(`${host}/${bucket}/${safe}`))
    throw usageError(`AWS_ENDPOINT_URL ${host}: this is no address.`);
  const url = new URL(`${host}/${bucket}/${safe}`);
  if (!isPrivate(url)) throw usageError(`AWS_ENDPOINT_URL ${host}: use https://.`);
  return { url, region };
}

/** Without a query, which may be a signature. */
const shown = ({ origin, pathname }: URL): string => `${origin}${pathname}`;

const unavailable = (url: URL, reason: string): CliError =>
  new CliError({ message: `Could not download ${shown(url)}: ${reason}.`, code: CODE });
const tooLarge = (what: string, bytes: number, most: number): CliError =>
  new CliError({
    message: `${what} has ${bytes} bytes; at most ${most} are fetched. ${NOT_A_MODEL}`,
    exitCode: EXIT.refused,
    code: 'adapter_invalid',
  });

/**
 * @param params.target where it is written; beside it lies its entity tag, of the whole file or of what is there so far.
 * @returns false when there is no such file. @throws CliError
 */
async function fetchFile(
  params: Fetching & { url: URL; target: string; most: number; ask: Ask },
): Promise<boolean> {
  const { url, target, most, ask, output, signal } = params;
  const tagFile = `${target}.etag`;
  const tag = await readFile(tagFile, 'utf8').catch(() => null);
  const partial = ownPartial(target);
  const isHeld = tag !== null && (await sizeOf(target)) >= 0;
  if (!isHeld && tag !== null) await takeOver(target, partial);
  const before = Math.max(0, await sizeOf(partial));
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (isHeld) headers['if-none-match'] = tag;
  else if (before > 0 && tag !== null) Object.assign(headers, { range: `bytes=${before}-`, 'if-range': tag });
  const progress = output.progress(`adapter ${path.posix.basename(url.pathname)}`);
  try {
    const response = await ask(url, headers);
    const done = response.status === 206 ? before : 0;
    if (response.status !== 200 && response.status !== 206) {
      await response.body?.cancel();
      if (response.status === 304) return true;
      if (response.status !== 404) throw unavailable(url, statusReason(response.status));
      for (const left of [target, tagFile]) await rm(left, { force: true });
      return false;
    }
    if (!isPrivate(new URL(response.url || url.href)))
      throw unavailable(url, 'it leads to an address without https');
    const total = totalOf(response, done);
    if (total !== null && total > most) throw tooLarge(shown(url), total, most);
    // A weak tag does not say that the bytes are the same.
    const next = response.headers.get('etag');
    await rm(target, { force: true });
    if (next !== null && !next.startsWith('W/')) await writeFile(tagFile, next);
    else await rm(tagFile, { force: true });
    let bytes = done;
    const counted = new Transform({
      transform(chunk: Uint8Array, _encoding, go) {
        bytes += chunk.length;
        progress.update(bytes, total ?? bytes);
        go(bytes > most ? tooLarge(shown(url), bytes, most) : null, chunk);
      },
    });
    const body =
      response.body === null ? Readable.from([]) : Readable.fromWeb(response.body as ReadableStream);
    await pipeline(
      body,
      counted,
      createWriteStream(partial, { flags: done > 0 ? 'a' : 'w' }),
      ending(signal),
    );
    if (total !== null && bytes !== total) throw new Error(`it ended after ${bytes} of ${total} bytes`);
    await rename(partial, target);
    return true;
  } catch (error) {
    await leavePartial(target, partial);
    signal?.throwIfAborted();
    if (error instanceof CliError) throw error;
    const { message, cause } = error as Error;
    const reason = String((cause as Error | undefined)?.message ?? message);
    throw unavailable(
      url,
      `${reason}; the downloaded part is kept, and the next attempt continues from there`,
    );
  } finally {
    progress.end();
  }
}

const ending = (signal: AbortSignal | undefined) => (signal === undefined ? {} : { signal });

/** Bytes of the whole file; null = the server does not say. */
function totalOf({ status, headers }: Response, done: number): number | null {
  const total = /\/(\d+)$/.exec(headers.get('content-range') ?? '')?.[1];
  if (status === 206 && total !== undefined) return Number(total);
  const length = headers.get('content-length');
  return length === null || headers.has('content-encoding') ? null : done + Number(length);
}

const STATUS: Readonly<Record<number, string>> = {
  301: 'the bucket is in another region: set AWS_REGION',
  401: 'it needs a signature: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3://, or give a signed address',
  403: 'it may not be read by this key or signature, or does not exist',
  416: 'it has become shorter meanwhile. Try again',
};
const statusReason = (status: number): string => STATUS[status] ?? `the server answered ${status}`;

/** @throws CliError (refused), and forgets the file. */
async function checkSha256(file: string, sha256: string, url: URL): Promise<void> {
  const found = await fileSha256(file);
  if (found === sha256) return;
  await rm(file, { force: true });
  throw new CliError({
    message: `${shown(url)} has sha256 ${found}, not ${sha256}; it was discarded.`,
    exitCode: EXIT.refused,
    code: 'adapter_invalid',
  });
}
