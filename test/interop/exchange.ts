/** Reads what make_adapters.py wrote, and writes it for the other tools. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  AdapterFormatError,
  packAdapter,
  readAdapter,
  sumAdapters,
  toFloat32,
  writeGgufAdapter,
  writePeftAdapter,
  type AdapterFiles,
  type AttentionShape,
  type LoraModule,
  type PackedAdapter,
} from '../../adapters/index.ts';

export interface Exchanged {
  readonly name: string;
  /** What make_adapters.py wrote. */
  readonly format: string;
  /** As graft packs it; null when it was refused. */
  readonly packed: PackedAdapter | null;
  readonly ggufPath: string;
  /** Why graft refused it. */
  readonly refusal: string | null;
}

interface Truth {
  format: string;
  weights: string;
  config: string | null;
  scales: Record<string, number>;
  /** Of a sum: scale by member; a sum has no files. */
  members: Record<string, number> | null;
}

export const BASE_NAME = 'HuggingFaceTB/SmolLM2-135M-Instruct';
export const BASE_ID = 'smollm2-135m-instruct';

const EXACT = 1e-6;

/** The modules that graft found against those that were written: names, and scales to a millionth. */
function checkModules(modules: readonly LoraModule[], { scales }: Truth): void {
  const found = new Set(modules.map(({ name }) => name));
  const lost = Object.keys(scales).filter((name) => !found.has(name));
  const made = [...found].filter((name) => scales[name] === undefined);
  if (lost.length + made.length > 0) throw new Error(`lost: ${lost.join(' ')}; made up: ${made.join(' ')}`);
  for (const { name, scale, b } of modules) {
    if (Math.abs(scale / scales[name]! - 1) > EXACT)
      throw new Error(`${name}: scale ${scale}, should be ${scales[name]}`);
    if (toFloat32(b).every((value) => value === 0)) throw new Error(`${name}: B is zero`);
  }
}

/**
 * Every adapter in `folder`: read, checked, and written as `export/` (PEFT) and `export.gguf`, by way of the canonical
 * file.
 * @param only names; all when empty.
 */
export async function exchangeAll(
  folder: string,
  attention: AttentionShape,
  only: readonly string[],
): Promise<Exchanged[]> {
  const names = (await readdir(folder)).filter((name) => existsSync(path.join(folder, name, 'truth.json')));
  const wanted = names.filter((name) => only.length === 0 || only.includes(name)).sort();
  const all: Exchanged[] = [];
  for (const name of wanted) all.push(await exchange(path.join(folder, name), attention));
  return all;
}

async function readTruth(folder: string): Promise<Truth> {
  return JSON.parse(await readFile(path.join(folder, 'truth.json'), 'utf8')) as Truth;
}

async function readSource(folder: string, { weights, config }: Truth): Promise<AdapterFiles> {
  return {
    weights: new Uint8Array(await readFile(path.join(folder, weights))),
    configJson: config === null ? null : await readFile(path.join(folder, config), 'utf8'),
  };
}

/** The adapter as graft means it. A sum is made of its members' files, and packed by way of PEFT's format. */
async function packSource(folder: string, truth: Truth, attention: AttentionShape): Promise<PackedAdapter> {
  const pack = (files: AdapterFiles) =>
    packAdapter({ files, attention, baseId: BASE_ID, parentChainId: null });
  if (truth.members === null) {
    const files = await readSource(folder, truth);
    const read = readAdapter(files, { attention });
    if (read.format !== truth.format) throw new Error(`${folder}: taken for ${read.format}`);
    for (const warning of read.warnings) console.log(`${path.basename(folder)}: ${warning}`);
    return pack(files);
  }
  const members = [];
  for (const [name, scale] of Object.entries(truth.members)) {
    const member = path.join(path.dirname(folder), name);
    const files = await readSource(member, await readTruth(member));
    members.push({ modules: readAdapter(files, { attention }).modules, scale });
  }
  const sum = writePeftAdapter({ modules: sumAdapters(members), baseModel: BASE_NAME });
  return pack({ weights: sum.safetensors, configJson: sum.configJson });
}

async function exchange(folder: string, attention: AttentionShape): Promise<Exchanged> {
  const truth = await readTruth(folder);
  const made = {
    name: path.basename(folder),
    format: truth.format,
    ggufPath: path.join(folder, 'export.gguf'),
  };
  try {
    const packed = await packSource(folder, truth, attention);
    // The canonical file is one more format to read: what the other tools see went through it.
    const { modules } = readAdapter({ weights: packed.bytes, configJson: null });
    checkModules(modules, truth);
    const { configJson, safetensors } = writePeftAdapter({ modules, baseModel: BASE_NAME });
    await mkdir(path.join(folder, 'export'), { recursive: true });
    await writeFile(path.join(folder, 'export/adapter_config.json'), configJson);
    await writeFile(path.join(folder, 'export/adapter_model.safetensors'), safetensors);
    const gguf = writeGgufAdapter({ modules, attention, baseModel: BASE_NAME, dtype: 'F32' });
    await writeFile(made.ggufPath, gguf);
    return { ...made, packed, refusal: null };
  } catch (error) {
    if (!(error instanceof AdapterFormatError)) throw error;
    return { ...made, packed: null, refusal: `${error.code}: ${error.message}` };
  }
}
