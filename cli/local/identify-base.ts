/** A base on disk as origins name it: `loadBase` of gpu-origin/model/load-base.ts computes the same. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { baseIdOf } from '../../protocol/identity.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { Output } from '../output.ts';
import { PINNED_BASE } from './download-package.ts';
import { bytesSha256 } from './find-base.ts';

export interface BaseIdentity {
  /** As origins serve it, unless they were given another id. */
  readonly id: string;
  /** For PEFT's `base_model_name_or_path`: the repository, if it is known. */
  readonly name: string;
  readonly digest: string;
}

/** The repository of {@link PINNED_BASE}. */
const PINNED_NAME = 'HuggingFaceTB/SmolLM2-135M-Instruct';
const GGUF_PART = /-(\d{5})-of-(\d{5})(\.gguf)$/;
const QUANTIZATION = /[.-](I?Q\d\w*|[BF]16|F?32|BF16)$/i;
const INDEX = 'model.safetensors.index.json';
const Config = z.object({ _name_or_path: z.string().optional() });
const Index = z.object({ weight_map: z.record(z.string(), z.string()) });

/**
 * Reads all of the base, gigabytes of it, unless it is the default one.
 * @param params.base a path of `findBase`. @param params.repository `owner/name`, if it was downloaded from there.
 * @throws CliError `base_invalid` (usage)
 */
export async function identifyBase(params: {
  base: string;
  repository: string | null;
  output: Output;
  signal?: AbortSignal;
}): Promise<BaseIdentity> {
  const { base, repository } = params;
  try {
    const isFolder = (await stat(base)).isDirectory();
    const { files, name, id } = isFolder ? await filesOfFolder(base) : filesOfGguf(base);
    const isPinned = path.basename(base) === PINNED_BASE.file;
    const digests = await digestsOf(files, params);
    const lines = files.map((file, i) => `${isFolder ? `${path.basename(file)} ` : ''}${digests[i]}\n`);
    const digest = isFolder || files.length > 1 ? bytesSha256(lines.join('')) : (digests[0] ?? '');
    const names = [repository, name, isPinned ? PINNED_NAME : null];
    // Another name would lead whoever publishes the adapter to another id.
    const fitting = names.find((one) => one !== null && baseIdOf(one) === id);
    return { id, name: fitting ?? id, digest };
  } catch (error) {
    params.signal?.throwIfAborted();
    const reason = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    throw new CliError({
      message: `The base ${base} cannot be read: ${reason}.`,
      exitCode: EXIT.usage,
      code: 'base_invalid',
    });
  }
}

interface BaseFiles {
  /** In the order of the digest. */
  files: string[];
  name: string | null;
  id: string;
}

function filesOfGguf(file: string): BaseFiles {
  const [, , count = '0', end = ''] = GGUF_PART.exec(file) ?? [];
  const parts = Array.from({ length: Number(count) }, (_, i) =>
    file.replace(GGUF_PART, `-${String(i + 1).padStart(5, '0')}-of-${count}${end}`),
  );
  const stem = path
    .basename(file)
    .replace(/(-\d{5}-of-\d{5})?\.gguf$/i, '')
    .replace(QUANTIZATION, '');
  return { files: parts.length > 1 ? parts : [file], name: null, id: baseIdOf(stem) };
}

async function filesOfFolder(folder: string): Promise<BaseFiles> {
  const config = path.join(folder, 'config.json');
  const { _name_or_path: name } = Config.parse(JSON.parse(await readFile(config, 'utf8')));
  const there = (await readdir(folder)).filter((file) => file.endsWith('.safetensors')).sort();
  const index = await readFile(path.join(folder, INDEX), 'utf8').catch(() => null);
  const named = index === null ? null : new Set(Object.values(Index.parse(JSON.parse(index)).weight_map));
  const single = there.includes('model.safetensors') ? ['model.safetensors'] : there;
  const weights = named === null ? single : there.filter((file) => named.has(file));
  return {
    files: [config, ...weights.map((file) => path.join(folder, file))],
    name: name || null,
    id: baseIdOf(name || path.basename(folder)),
  };
}

const READ_BYTES = 4 * 1024 * 1024;

async function digestsOf(
  files: readonly string[],
  { output, signal }: { output: Output; signal?: AbortSignal },
): Promise<string[]> {
  const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const bar = output.progress('checking the base');
  let done = 0;
  try {
    const digests: string[] = [];
    for (const file of files) {
      const hash = createHash('sha256');
      for await (const piece of createReadStream(file, { highWaterMark: READ_BYTES })) {
        signal?.throwIfAborted();
        hash.update(piece as Uint8Array);
        bar.update((done += (piece as Uint8Array).length), total);
      }
      digests.push(hash.digest('hex'));
    }
    return digests;
  } finally {
    bar.end();
  }
}
