/** A base in parts that browsers fetch: its graphs, their weights and what prompts and adapters need of it. */
import { createHash } from 'node:crypto';
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  type BaseInfo,
  WEB_BASE_MANIFEST,
  WEB_BASE_PART_BYTES,
  type WebBaseFile,
  type WebBaseManifest,
  webBaseManifest,
  webBasePartName,
} from '../../protocol/index.ts';
import type { BaseModel } from './base-model.ts';
import type { BuiltGraphs, Progress } from './build-graphs.ts';
import { writeConfigJson, writeFoldedGains } from './web-base.ts';
import type { TokenizerDefinition } from './tokenizer-definition.ts';

const PART_NAME = /^[0-9a-f]{64}\.bin$/;

export interface WebBaseParams {
  base: BaseModel;
  info: BaseInfo;
  built: BuiltGraphs;
  tokenizer: TokenizerDefinition;
  /** Made if it is not there; parts of an export before that this one has not are removed. */
  folder: string;
  onProgress: Progress;
  /** Bytes of a part; {@link WEB_BASE_PART_BYTES} unless given. */
  partBytes?: number;
}

/** The manifest is written last: who reads it finds all of its parts. */
export async function writeWebBase(params: WebBaseParams): Promise<WebBaseManifest> {
  const { folder, info, onProgress, partBytes = WEB_BASE_PART_BYTES } = params;
  mkdirSync(folder, { recursive: true });
  const sources = filesOf(params);
  const total = sources.reduce((sum, { bytes }) => sum + bytes, 0);
  const files: WebBaseManifest['files'] = {} as WebBaseManifest['files'];
  const parts: WebBaseManifest['parts'] = [];
  let done = 0;
  let offset = 0;
  let part = new Uint8Array(Math.min(partBytes, total));
  let filled = 0;
  const flush = (): void => {
    const bytes = part.subarray(0, filled);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    writeWhole(join(folder, webBasePartName(sha256)), bytes);
    parts.push({ sha256, bytes: filled });
    done += filled;
    filled = 0;
    part = new Uint8Array(Math.min(partBytes, Math.max(1, total - done)));
    onProgress('Writing the parts', done, total);
  };
  for (const { name, bytes, read } of sources) {
    files[name] = { offset, bytes };
    offset += bytes;
    for await (const chunk of read())
      for (let at = 0; at < chunk.length;) {
        const taken = Math.min(chunk.length - at, part.length - filled);
        part.set(chunk.subarray(at, at + taken), filled);
        filled += taken;
        at += taken;
        if (filled === part.length) flush();
      }
  }
  if (filled > 0) flush();
  const manifest = webBaseManifest({ base: info, files, parts });
  writeWhole(join(folder, WEB_BASE_MANIFEST), new TextEncoder().encode(JSON.stringify(manifest)));
  const kept = new Set(parts.map(({ sha256 }) => webBasePartName(sha256)));
  for (const name of readdirSync(folder))
    if (PART_NAME.test(name) && !kept.has(name)) rmSync(join(folder, name));
  return manifest;
}

interface Source {
  name: WebBaseFile;
  bytes: number;
  read(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

function filesOf({ base, built, tokenizer }: WebBaseParams): Source[] {
  const onDisk = (name: WebBaseFile, path: string): Source => ({
    name,
    bytes: statSync(path).size,
    read: () => createReadStream(path, { highWaterMark: 1024 ** 2 }),
  });
  const inMemory = (name: WebBaseFile, bytes: Uint8Array): Source => ({
    name,
    bytes: bytes.length,
    read: () => [bytes],
  });
  const text = (value: string): Uint8Array => new TextEncoder().encode(value);
  return [
    onDisk('weights.bin', built.weightsPath),
    inMemory('weights.json', text(JSON.stringify(built.weights))),
    onDisk('none.onnx', built.graphs.none),
    onDisk('qv.onnx', built.graphs.qv),
    onDisk('all.onnx', built.graphs.all),
    inMemory('config.json', text(writeConfigJson(base.config))),
    inMemory('gains.safetensors', writeFoldedGains(base)),
    inMemory('tokenizer.json', text(JSON.stringify(tokenizer))),
  ];
}

/** Whole or not at all. */
function writeWhole(path: string, bytes: Uint8Array): void {
  if (path.endsWith('.bin') && existsSync(path) && statSync(path).size === bytes.length) return;
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, bytes);
  renameSync(temporary, path);
}
