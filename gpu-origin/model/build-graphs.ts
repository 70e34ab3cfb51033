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
  type Precision,
  PRECISIONS,
  type WeightEntry,
} from './base-model.ts';
import { WeightEntries } from './web-base.ts';
import { fileDigest } from './read-file.ts';
import { buildLlamaGraph, type KvScales } from './llama-graph.ts';
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
  /** For products in int8 on a processor, see `quantizeLinear`; default: no. */
  limitsPairs?: boolean;
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
const fileName = (kind: GraphKind, of?: number | string): string =>
  of === undefined ? `${kind}.onnx` : `${kind}.${of}.onnx`;

const graphsIn = (folder: string, of?: number | string): Record<GraphKind, string> => {
  const paths = GRAPH_KINDS.map((kind) => [kind, join(folder, fileName(kind, of))]);
  return Object.fromEntries(paths) as Record<GraphKind, string>;
};

function describe(
  folder: string,
  weights: WeightEntry[],
  rotations: RotationSet | null,
  parts: readonly Layers[],
  flavour: GraphFlavour,
): BuiltGraphs {
  const graphs = (of?: number | 'f16' | 'mixed'): Record<GraphKind, string> => graphsIn(folder, of);
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
  const { base, format, context, rotate, embedding, flavour = 'cpu' } = options;
  const { padsLoneRow = false, limitsPairs = false } = options;
  const rotations = rotate ? makeRotations(base.config) : null;
  const key = createHash('sha256')
    .update(
      JSON.stringify({
        ...{ version: BUILDER_VERSION, base: base.digest, format, context, rotate, embedding },
        ...(flavour === 'cpu' ? {} : { flavour, precisions: PRECISIONS }),
        ...(padsLoneRow ? { padsLoneRow } : {}),
        ...(limitsPairs ? { limitsPairs } : {}),
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

/** Raise it when the same base would get other scales or graphs. */
const DECODING_VERSION = 4;

const Steps = z.array(z.number().positive()).transform((values) => Float32Array.from(values));
const DecodingManifest = z.strictObject({
  version: z.literal(DECODING_VERSION),
  sha256: z.record(z.string(), z.string()),
  scales: z.array(z.strictObject({ k: Steps, v: Steps })),
  divergence: z.number(),
});

/** Graphs of decode steps over int8 keys and values. */
export interface DecodingGraphs {
  graphs: Record<GraphKind, string>;
  /** Over a chunk in float32, and decoding rows in int8. */
  mixed: Record<GraphKind, string>;
  scales: KvScales;
  /** Mean KL that int8 keys and values add to the answers, nats a token; huge if one was not finite. */
  divergence: number;
}

/** How the runtime finds scales, and tests them. Called only when nothing is in the cache. */
export interface KvCalibration {
  scales(): Promise<KvScales>;
  /** @returns mean KL in nats. */
  divergence(decoding: Pick<DecodingGraphs, 'graphs' | 'scales'>): Promise<number>;
}

/**
 * Writes graphs over the same weights beside those of `built`, once: ONNX Runtime wants weights in the folder of their
 * graph.
 */
export async function buildDecodingGraphs(
  built: BuiltGraphs,
  options: Pick<BuildOptions, 'base' | 'format' | 'padsLoneRow' | 'context'>,
  calibration: KvCalibration,
): Promise<DecodingGraphs> {
  const { folder, weights, rotations } = built;
  const known = await readDecoding(folder);
  if (known !== null) return known;
  const temporary = `${process.pid}.tmp`;
  const writing = INT8_GRAPHS.map((of) => graphsIn(folder, `${of}.${temporary}`));
  const manifest = join(folder, DECODING_MANIFEST);
  try {
    const scales = await calibration.scales();
    const sha256: Record<string, string> = {};
    for (const [index, of] of INT8_GRAPHS.entries())
      for (const kind of GRAPH_KINDS) {
        const model = buildLlamaGraph({
          ...{ config: options.base.config, kind, context: options.context, format: options.format },
          ...{ flavour: 'cpu', padsLoneRow: options.padsLoneRow ?? false, rotations },
          ...{ weights, weightsFile: WEIGHTS_FILE, kvScales: scales, mixed: of === INT8_MIXED },
        });
        writeFileSync(writing[index]![kind], model);
        sha256[fileName(kind, of)] = createHash('sha256').update(model).digest('hex');
      }
    const measured = await calibration.divergence({ graphs: writing[0]!, scales });
    const divergence = Number.isFinite(measured) ? measured : Number.MAX_VALUE;
    const written = scales.map(({ k, v }) => ({ k: [...k], v: [...v] }));
    writeFileSync(
      `${manifest}.${temporary}`,
      JSON.stringify({ version: DECODING_VERSION, sha256, scales: written, divergence }),
    );
    for (const [index, of] of INT8_GRAPHS.entries())
      for (const kind of GRAPH_KINDS) renameSync(writing[index]![kind], graphsIn(folder, of)[kind]);
    // The last one: it has the others' digests.
    renameSync(`${manifest}.${temporary}`, manifest);
    return { ...int8GraphsIn(folder), scales, divergence };
  } catch (error) {
    for (const file of [...writing.flatMap((graphs) => Object.values(graphs)), `${manifest}.${temporary}`])
      rmSync(file, { force: true });
    throw error;
  }
}

/**
 * Writes the graph of all deltas whose rows may adapt the embedding beside those of `built`; each time, since that takes
 * milliseconds, and whole or not at all.
 * @param params.layers of the part; default: all. @param params.kvScales default: keys and values in float32.
 * @returns its path.
 */
export function writeAdaptingGraph(
  { folder, weights, rotations }: BuiltGraphs,
  params: Pick<BuildOptions, 'base' | 'format' | 'flavour' | 'padsLoneRow' | 'context'> & {
    precision: Precision;
    layers?: Layers;
    kvScales?: KvScales | null;
  },
): string {
  const { base, flavour = 'cpu', precision, layers, kvScales = null } = params;
  const model = buildLlamaGraph({
    ...{ config: base.config, kind: 'all', context: params.context, format: params.format },
    ...{ flavour, precision, padsLoneRow: params.padsLoneRow ?? false, rotations, adaptsEmbedding: true },
    ...{ weights, weightsFile: WEIGHTS_FILE, kvScales },
    ...(layers === undefined ? {} : { layers }),
  });
  const digest = createHash('sha256').update(model).digest('hex').slice(0, 16);
  const path = join(folder, `all.adapting.${digest}.onnx`);
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, model);
  renameSync(temporary, path);
  return path;
}

const DECODING_MANIFEST = 'kv-int8.json';
const INT8_MIXED = 'kv-int8-mixed';
const INT8_GRAPHS = ['kv-int8', INT8_MIXED] as const;

const int8GraphsIn = (folder: string): Pick<DecodingGraphs, 'graphs' | 'mixed'> => ({
  graphs: graphsIn(folder, INT8_GRAPHS[0]),
  mixed: graphsIn(folder, INT8_MIXED),
});

async function readDecoding(folder: string): Promise<DecodingGraphs | null> {
  const path = join(folder, DECODING_MANIFEST);
  if (!existsSync(path)) return null;
  try {
    const { sha256, scales, divergence } = DecodingManifest.parse(JSON.parse(readFileSync(path, 'utf8')));
    for (const [file, digest] of Object.entries(sha256))
      if ((await fileDigest(join(folder, file))) !== digest) return null;
    return { ...int8GraphsIn(folder), scales, divergence };
  } catch {
    return null;
  }
}
