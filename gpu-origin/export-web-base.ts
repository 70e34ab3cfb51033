/**
 * Run by `graft base export --web`: a base's file or folder to parts that browsers download. Reports JSON on
 * stdout.
 */
import { parseArgs } from 'node:util';
import {
  type WebBaseManifest,
  WEB_BASE_MANIFEST,
  WEB_BASE_PART_BYTES,
  type WebBaseFile,
  webBaseManifest,
  webBasePartName,
} from '../protocol/browser-downloads.ts';
import type { BaseInfo } from '../protocol/origin-wire.ts';
import { buildGraphs, type Progress, type BuiltGraphs } from './model/build-graphs.ts';
import { loadBase } from './model/load-base.ts';
import { makeRotations } from './model/rotation.ts';
import { readTokenizer } from './model/load-tokenizer.ts';
import { describeBase } from './runtime/create-runner.ts';
import { progressReporter } from './log.ts';
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
import type { BaseModel } from './model/base-model.ts';
import { writeConfigJson, writeFoldedGains } from './model/web-base.ts';
import type { TokenizerDefinition } from './model/tokenizer-definition.ts';

export interface ExportParams {
  basePath: string;
  baseId?: string | undefined;
  /** Where graphs are built, as in origins. */
  cacheDir: string;
  folder: string;
  onProgress: Progress;
  partBytes?: number;
}

/** @throws BaseModelError | GgufError | TokenizerError with a message for the operator. */
export async function exportWebBase(params: ExportParams): Promise<WebBaseManifest> {
  const { basePath, baseId, cacheDir, onProgress } = params;
  const { base, tokenizerSource } = await loadBase(basePath, baseId);
  try {
    const tokenizer = readTokenizer(tokenizerSource);
    const { context } = base.config;
    // Without a rotation, a few numbers of each row are hundreds of times larger than the others: one scale
    // would lose these.
    const isEven = makeRotations(base.config).stream !== null;
    const built = await buildGraphs({
      ...{ base, format: 'int8', context, rotate: true, cacheDir, onProgress },
      ...(isEven ? { embedding: 'int8' as const } : {}),
    });
    const info = describeBase(base, {
      format: 'int8',
      context,
      provider: 'web',
      bits: true,
      adaptsEmbedding: false,
    });
    return await writeWebBase({ ...params, base, info, built, tokenizer });
  } finally {
    base.close();
  }
}

const PART_NAME = /^[0-9a-f]{64}\.bin$/;

interface WebBaseParams {
  base: BaseModel;
  info: BaseInfo;
  built: BuiltGraphs;
  tokenizer: TokenizerDefinition;
  /** Created if missing; parts of an earlier export that this one lacks are removed. */
  folder: string;
  onProgress: Progress;
  /** Bytes of a part; default {@link WEB_BASE_PART_BYTES}. */
  partBytes?: number;
}

/** The manifest is written last: its readers find all parts. */
async function writeWebBase(params: WebBaseParams): Promise<WebBaseManifest> {
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

// Last, because it uses the functions above.
if (process.argv[1] === import.meta.filename) {
  const note = (text: string): boolean => process.stderr.write(text);
  const tell = (event: string, fields: object): boolean =>
    process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
  const option = { type: 'string' } as const;
  const { values } = parseArgs({ options: { base: option, 'base-id': option, cache: option, out: option } });
  try {
    const { base, parts } = await exportWebBase({
      basePath: values.base ?? '',
      baseId: values['base-id'],
      cacheDir: values.cache ?? '',
      folder: values.out ?? '',
      onProgress: progressReporter({
        stderr: { write: note },
        onPercent: (what, percent) => tell('progress', { what, percent }),
      }),
    });
    const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    tell('ready', { id: base.id, digest: base.digest, weights: base.weights, parts: parts.length, bytes });
  } catch (error) {
    note(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  }
}
