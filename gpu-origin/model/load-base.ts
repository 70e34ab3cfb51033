import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import {
  parseSafetensorsHeader,
  readHeaderLength,
  type TensorEntry,
  toFloat32,
} from '../../adapters/index.ts';
import { baseIdOf } from '../../protocol/index.ts';
import { type BaseModel, BaseModelError } from './base-model.ts';
import { FREQUENCIES, HEAD, refuseOtherHead, refuseUnused, splitFused } from './stored-tensors.ts';
import { fileDigest, readFully } from './read-file.ts';
import { readHubConfig, refuseOtherModels } from './hub-config.ts';
import { loadGgufBase } from './load-gguf-base.ts';
import type { TokenizerSource } from './load-tokenizer.ts';

/** @param path a .gguf file or a Hugging Face folder. @throws BaseModelError | GgufError */
export async function loadBase(
  path: string,
  id: string | undefined,
): Promise<{ base: BaseModel; tokenizerSource: TokenizerSource }> {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) throw new BaseModelError(`there is no file or folder ${path}`);
  if (stats.isDirectory())
    return { base: await loadFolderBase({ path, id }), tokenizerSource: { kind: 'folder', path } };
  const { base, file } = await loadGgufBase({ path, id });
  return { base, tokenizerSource: { kind: 'gguf', metadata: file.metadata } };
}

const NORM = /norm\.weight$/;

interface Located {
  fd: number;
  entry: TensorEntry;
  dataStart: number;
}

function readExactly(fd: number, length: number, position: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  if (!readFully(fd, bytes, position))
    throw new BaseModelError('a safetensors file ends before its tensors do: it is truncated');
  return bytes;
}

/** Opens every safetensors file of the folder; names of files come from the folder itself, never from an index file. */
function locateTensors(folder: string, files: readonly string[], fds: number[]): Map<string, Located> {
  const tensors = new Map<string, Located>();
  for (const file of files) {
    const path = join(folder, file);
    const fd = openSync(path, 'r');
    fds.push(fd);
    const headerLength = readHeaderLength(readExactly(fd, 8, 0), path);
    const header = parseSafetensorsHeader({
      header: readExactly(fd, headerLength, 8),
      dataBytes: statSync(path).size - 8 - headerLength,
      path,
    });
    for (const [name, entry] of header.tensors) tensors.set(name, { fd, entry, dataStart: 8 + headerLength });
  }
  return tensors;
}

const INDEX = 'model.safetensors.index.json';
const ShardIndex = z.object({ weight_map: z.record(z.string(), z.string()) });

/**
 * The files that the weights are in: those of the index, else `model.safetensors`, else all; some folders have the same
 * weights in another form beside them. Names of files come from the folder itself, never from the index.
 */
function weightFiles(folder: string): string[] {
  const there = readdirSync(folder)
    .filter((file) => file.endsWith('.safetensors'))
    .sort();
  if (existsSync(join(folder, INDEX))) {
    const index = ShardIndex.safeParse(JSON.parse(readFileSync(join(folder, INDEX), 'utf8')));
    if (!index.success) throw new BaseModelError(`${INDEX}: ${z.prettifyError(index.error)}`);
    const named = new Set(Object.values(index.data.weight_map));
    const missing = [...named].find((file) => !there.includes(file));
    if (missing !== undefined)
      throw new BaseModelError(
        `${folder} lacks ${missing}, which ${INDEX} names: fetch the rest of the base`,
      );
    return there.filter((file) => named.has(file));
  }
  if (there.length === 0) throw new BaseModelError(`${folder} has no .safetensors file`);
  return there.includes('model.safetensors') ? ['model.safetensors'] : there;
}

/** What a base may be stored as. */
const STORED = new Set(['F32', 'F16', 'BF16']);

function refuseQuantized(tensors: ReadonlyMap<string, Located>): void {
  for (const [name, { entry }] of tensors)
    if (!STORED.has(entry.dtype) && !FREQUENCIES.test(name))
      throw new BaseModelError(
        `${name} is ${entry.dtype}; F32, F16 and BF16 are supported. Give the plain checkpoint that it was made from, ` +
          'or a GGUF file',
      );
}

/** A Hugging Face folder: `config.json` and one or more safetensors files. @throws BaseModelError | AdapterFormatError */
export async function loadFolderBase(params: { path: string; id?: string | undefined }): Promise<BaseModel> {
  const { path: folder } = params;
  if (!existsSync(join(folder, 'config.json'))) throw new BaseModelError(`${folder} has no config.json`);
  // Before its weights: what it is.
  const json: unknown = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  refuseOtherModels(json);
  const files = weightFiles(folder);
  const fds: number[] = [];
  const close = (): void => fds.forEach((fd) => closeSync(fd));
  try {
    const tensors = locateTensors(folder, files, fds);
    const { config, name: repository } = readHubConfig(json, tensors.has(HEAD));
    refuseQuantized(tensors);
    const digests = await Promise.all(
      ['config.json', ...files].map(async (file) => `${file} ${await fileDigest(join(folder, file))}\n`),
    );
    // A head that is stored although it is the embedding is looked at below.
    refuseUnused(
      [...tensors.keys()].filter((name) => name !== HEAD || !config.tiedHead),
      config,
    );
    const base: BaseModel = {
      id: params.id ?? baseIdOf(repository || basename(folder)),
      digest: createHash('sha256').update(digests.join('')).digest('hex'),
      config,
      tensor(name, shape) {
        const located = tensors.get(name);
        if (located === undefined) throw new BaseModelError(`the base lacks ${name}`);
        const { dtype, begin, end } = located.entry;
        if (located.entry.shape.join() !== shape.join())
          throw new BaseModelError(
            `${name} has shape [${located.entry.shape.join(', ')}], [${shape.join(', ')}] is needed`,
          );
        const data = readExactly(located.fd, end - begin, located.dataStart + begin);
        const values = toFloat32({ dtype, shape: [...shape], data });
        // Gemma stores gains less one (`Gemma3RMSNorm`: 1 + weight).
        if (config.family === 'gemma3' && NORM.test(name))
          for (let i = 0; i < values.length; i++) values[i]! += 1;
        return values;
      },
      close,
    };
    if (config.tiedHead && tensors.has(HEAD)) refuseOtherHead(base);
    return splitFused(base);
  } catch (error) {
    close();
    throw error;
  }
}
