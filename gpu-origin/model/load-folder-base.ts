import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import {
  parseSafetensorsHeader,
  readHeaderLength,
  type TensorEntry,
  toFloat32,
} from '../../adapters/index.ts';
import { baseIdOf } from '../../protocol/index.ts';
import { type BaseModel, BaseModelError } from './base-model.ts';
import { HEAD, refuseOtherHead, refuseUnused } from './check-tensors.ts';
import { fileDigest } from './file-digest.ts';
import { readHubConfig } from './hub-config.ts';
import { readFully } from './read-fully.ts';
import { splitFused } from './split-fused.ts';

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

/** A Hugging Face folder: `config.json` and one or more safetensors files. @throws BaseModelError | AdapterFormatError */
export async function loadFolderBase(params: { path: string; id?: string | undefined }): Promise<BaseModel> {
  const { path: folder } = params;
  if (!existsSync(join(folder, 'config.json'))) throw new BaseModelError(`${folder} has no config.json`);
  const files = readdirSync(folder)
    .filter((file) => file.endsWith('.safetensors'))
    .sort();
  if (files.length === 0) throw new BaseModelError(`${folder} has no .safetensors file`);
  const fds: number[] = [];
  const close = (): void => fds.forEach((fd) => closeSync(fd));
  try {
    const tensors = locateTensors(folder, files, fds);
    const json: unknown = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    const { config, name: repository } = readHubConfig(json, tensors.has(HEAD));
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
