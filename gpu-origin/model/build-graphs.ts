/**
 * Writes the graphs and their weights into a folder of the cache, once per (base digest, options). The folder
 * appears completely or not at all: it is written under another name and renamed; a corrupted one is rebuilt.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import {
  type BaseModel,
  GRAPH_FILE_ALIGNMENT,
  GRAPH_KINDS,
  type GraphFlavour,
  type GraphKind,
  graphParts,
  type Layers,
  PRECISIONS,
  type WeightEntry,
} from './base-model.ts';
import { WeightEntries } from './web-base.ts';
import { fileDigest } from './read-file.ts';
import { buildLlamaGraph } from './llama-graph.ts';
import { prepareWeights, type WeightFormat } from './prepare-weights.ts';
import { makeRotations, type RotationSet } from './rotation.ts';

/** Raise it when the same base and options would produce other files. */
const BUILDER_VERSION = 7;
const WEIGHTS_FILE = 'weights.bin';

export type Progress = (stage: string, done: number, total: number) => void;

const Manifest = z.strictObject({
  version: z.literal(BUILDER_VERSION),
  sha256: z.record(z.string(), z.string()),
  weights: WeightEntries,
});

export interface BuiltGraphs {
  folder: string;
  weightsPath: string;
  weights: WeightEntry[];
  graphs: Record<GraphKind, string>;
  /** The same in float16, over the same weights; null on a processor. */
  fp16Graphs: Record<GraphKind, string> | null;
  /** Each graph over a chunk and decoding rows; null for a GPU. */
  mixed: Record<GraphKind, string> | null;
  /** Each graph in parts, for processors; [] for a GPU. */
  parts: readonly (Layers & { graphs: Record<GraphKind, string> })[];
  rotations: RotationSet | null;
}

export interface BuildOptions {
  base: BaseModel;
  format: WeightFormat;
  /** Their runtime; default `cpu`. */
  flavour?: GraphFlavour;
  /** For 4-bit products, see `Int4Products`; default: no. */
  padsLoneRow?: boolean;
  /** Positions that the rotary tables cover. */
  context: number;
  /** Rotate the weights; int8 and int4 always do, float32 only in tests of the rotation. */
  rotate: boolean;
  /** Rows of the embedding in int8, each with its scale, to save bytes. Default: float32. */
  embedding?: 'int8';
  cacheDir: string;
  onProgress: Progress;
}

async function readBuilt(
  folder: string,
  rotations: RotationSet | null,
  parts: readonly Layers[],
  flavour: GraphFlavour,
): Promise<BuiltGraphs | null> {
  const path = join(folder, 'manifest.json');
  if (!existsSync(path)) return null;
  try {
    const manifest = Manifest.parse(JSON.parse(readFileSync(path, 'utf8')));
    for (const [file, digest] of Object.entries(manifest.sha256))
      if ((await fileDigest(join(folder, file))) !== digest) return null;
    return describe(folder, manifest.weights, rotations, parts, flavour);
  } catch {
    return null;
  }
}

/** @param of the graph, beside its kind. */
const fileName = (kind: GraphKind, of?: number | 'f16' | 'mixed'): string =>
  of === undefined ? `${kind}.onnx` : `${kind}.${of}.onnx`;

function describe(
  folder: string,
  weights: WeightEntry[],
  rotations: RotationSet | null,
  parts: readonly Layers[],
  flavour: GraphFlavour,
): BuiltGraphs {
  const graphs = (of?: Parameters<typeof fileName>[1]): Record<GraphKind, string> => {
    const paths = GRAPH_KINDS.map((kind) => [kind, join(folder, fileName(kind, of))]);
    return Object.fromEntries(paths) as Record<GraphKind, string>;
  };
  return {
    folder,
    weightsPath: join(folder, WEIGHTS_FILE),
    weights,
    rotations,
    graphs: graphs(),
    fp16Graphs: flavour === 'gpu' ? graphs('f16') : null,
    mixed: flavour === 'cpu' ? graphs('mixed') : null,
    parts: parts.map((layers, part) => ({ ...layers, graphs: graphs(part) })),
  };
}

function writeWeights(
  folder: string,
  options: BuildOptions & { flavour: GraphFlavour },
  rotations: RotationSet | null,
): { entries: WeightEntry[]; sha256: string } {
  const fd = openSync(join(folder, WEIGHTS_FILE), 'w');
  const hash = createHash('sha256');
  const entries: WeightEntry[] = [];
  let offset = 0;
  const write = (bytes: Uint8Array): void => {
    hash.update(bytes);
    for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
    offset += bytes.length;
  };
  try {
    const onLayer = (done: number, total: number): void =>
      options.onProgress('Preparing the base model', done, total);
    for (const tensor of prepareWeights({ ...options, rotations, onLayer })) {
      write(new Uint8Array((GRAPH_FILE_ALIGNMENT - (offset % GRAPH_FILE_ALIGNMENT)) % GRAPH_FILE_ALIGNMENT));
      const { name, type, dims, data } = tensor;
      entries.push({ name, type, dims, offset, bytes: data.byteLength });
      write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
  } finally {
    closeSync(fd);
  }
  return { entries, sha256: hash.digest('hex') };
}

/** @throws BaseModelError when the base lacks a tensor. */
export async function buildGraphs(options: BuildOptions): Promise<BuiltGraphs> {
  const { base, format, context, rotate, embedding, flavour = 'cpu', padsLoneRow = false } = options;
  const rotations = rotate ? makeRotations(base.config) : null;
  const key = createHash('sha256')
    .update(
      JSON.stringify({
        ...{ version: BUILDER_VERSION, base: base.digest, format, context, rotate, embedding },
        ...(flavour === 'cpu' ? {} : { flavour, precisions: PRECISIONS }),
        ...(padsLoneRow ? { padsLoneRow } : {}),
      }),
    )
    .digest('hex')
    .slice(0, 32);
  const folder = join(options.cacheDir, 'graphs', key);
  const parts = flavour === 'cpu' ? graphParts(base.config.layers) : [];
  const built = await readBuilt(folder, rotations, parts, flavour);
  if (built !== null) return built;

  const temporary = `${folder}.${process.pid}.tmp`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  try {
    const { entries, sha256 } = writeWeights(temporary, { ...options, flavour }, rotations);
    const digests: Record<string, string> = { [WEIGHTS_FILE]: sha256 };
    const write = (kind: GraphKind, of?: Parameters<typeof fileName>[1]): void => {
      const model = buildLlamaGraph({
        ...{ config: base.config, kind, context, format, flavour, padsLoneRow, rotations },
        ...(typeof of === 'number' ? { layers: parts[of]! } : {}),
        mixed: of === 'mixed',
        precision: of === 'f16' ? of : 'f32',
        weights: entries,
        weightsFile: WEIGHTS_FILE,
      });
      const name = fileName(kind, of);
      writeFileSync(join(temporary, name), model);
      digests[name] = createHash('sha256').update(model).digest('hex');
    };
    for (const kind of GRAPH_KINDS) {
      write(kind);
      for (const part of parts.keys()) write(kind, part);
      write(kind, flavour === 'gpu' ? 'f16' : 'mixed');
    }
    writeFileSync(
      join(temporary, 'manifest.json'),
      JSON.stringify({ version: BUILDER_VERSION, sha256: digests, weights: entries }),
    );
    rmSync(folder, { recursive: true, force: true });
    renameSync(temporary, folder);
    return describe(folder, entries, rotations, parts, flavour);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    throw error;
  }
}
