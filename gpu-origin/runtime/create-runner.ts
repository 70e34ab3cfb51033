/** Base file or folder -> graphs in the cache -> sessions -> runner. */
import { closeSync, openSync, statSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import type { BaseInfo } from '../../protocol/index.ts';
import {
  type BaseModel,
  BaseModelError,
  LINEAR_KINDS,
  type LinearKind,
  storedLinears,
  storedShape,
} from '../model/base-model.ts';
import { type BuiltGraphs, buildGraphs, type Progress } from '../model/build-graphs.ts';
import { GRAPH_KINDS, type GraphKind, type WeightEntry } from '../model/llama-graph.ts';
import { loadFolderBase } from '../model/load-folder-base.ts';
import { loadGgufBase } from '../model/load-gguf-base.ts';
import { planMemory, sayMemory } from '../model/memory-plan.ts';
import { FINAL_NORM, foldsGains, gainBefore, type WeightFormat } from '../model/prepare-weights.ts';
import { readFully } from '../model/read-fully.ts';
import type { TokenizerSource } from '../model/tokenizer.ts';
import { ortLibrary } from './ort-library.ts';
import { OrtRunner } from './ort-runner.ts';
import { allocate, OrtEnvironment, type OrtSession, type OrtTensor } from './ort-session.ts';
import { chooseExactInt8, int4RowsStandAlone } from './self-test.ts';

/** Largest rank sum of a chain; a row's delta then costs at most 8x that of rank 32. */
const MAX_RANK_SUM = 256;
/**
 * Rows that can be set aside, for each slot. Where three tenants come one after the other and each wants all of 16
 * slots, 13 rows are set aside. Their memory, as much as the slots', becomes resident only as it is written.
 */
const PARKING = 1;

export interface CreateRunnerParams {
  /** A .gguf file or a Hugging Face folder. */
  basePath: string;
  baseId?: string | undefined;
  weights: WeightFormat;
  /** Rows that run at once. */
  slots: number;
  /** Tokens a row may have; at most, and by default, what the base was trained for. */
  context?: number | undefined;
  /** That adapters may take, bytes; only said. */
  adapterBytes?: number | undefined;
  /** Memory that there is, bytes; this machine's, or what it lets this process have, by default. */
  memoryBytes?: number | undefined;
  /** Intra-op threads; all cores by default. */
  threads?: number | undefined;
  cacheDir: string;
  /** Called before anything is prepared, with how many tokens the base knows; may throw. */
  onTokenizer?: (source: TokenizerSource, vocabSize: number) => void;
  onProgress: Progress;
  /** A sentence for the operator, such as a fallback that was taken. */
  onNotice: (message: string) => void;
  /** Hears, before anything is prepared, what memory it takes; what does not fit is refused whoever hears. */
  onMemory?: (message: string) => void;
  /** Only for tests of the rotation: float32 weights, rotated as int8's are. */
  rotateFloat32?: boolean;
}

async function loadBase(
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

function readWeights(
  env: OrtEnvironment,
  path: string,
  entries: readonly WeightEntry[],
): Map<string, OrtTensor> {
  const fd = openSync(path, 'r');
  try {
    return new Map(
      entries.map(({ name, type, dims, offset, bytes }) => {
        const data = new Uint8Array(allocate(bytes));
        if (!readFully(fd, data.subarray(0, bytes), offset))
          throw new Error(`${path} ends before its tensors do`);
        return [name, env.tensor(type, data, dims)];
      }),
    );
  } finally {
    closeSync(fd);
  }
}

function openSessions(
  env: OrtEnvironment,
  built: BuiltGraphs,
  weights: Map<string, OrtTensor>,
  onProgress: Progress,
): Record<GraphKind, OrtSession> {
  const sessions = GRAPH_KINDS.map((kind, index) => {
    const session = env.session(built.graphs[kind], weights);
    onProgress('Loading the graphs', index + 1, GRAPH_KINDS.length);
    return [kind, session] as const;
  });
  return Object.fromEntries(sessions) as Record<GraphKind, OrtSession>;
}

function describeBase(base: BaseModel, format: WeightFormat, context: number): BaseInfo {
  const modules = [];
  for (let layer = 0; layer < base.config.layers; layer++)
    for (const linear of storedLinears(base.config, layer))
      modules.push({ name: linear.name, ...storedShape(base.config, linear) });
  return {
    id: base.id,
    digest: base.digest,
    weights: format,
    context,
    max_rank_sum: MAX_RANK_SUM,
    architecture: base.config.family,
    attention: { heads: base.config.heads, kv_heads: base.config.kvHeads },
    modules,
  };
}

/** Gains are needed whenever an adapter is loaded, so they stay in memory: a few vectors a layer. */
function readGains(base: BaseModel): (layer: number, kind: LinearKind) => Float32Array | null {
  const gains = Array.from(
    { length: base.config.layers },
    (_, layer) => new Map(LINEAR_KINDS.map((kind) => [kind, gainBefore(base, layer, kind)])),
  );
  return (layer, kind) => gains[layer]?.get(kind) ?? null;
}

/** Bytes; a container may have less than its machine. */
function memoryHere(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/** @throws BaseModelError | GgufError | OrtError with a message for the operator. */
export async function createRunner(
  params: CreateRunnerParams,
): Promise<{ runner: OrtRunner; tokenizerSource: TokenizerSource }> {
  const { base, tokenizerSource } = await loadBase(params.basePath, params.baseId);
  try {
    params.onTokenizer?.(tokenizerSource, base.config.vocab);
    const context = Math.min(params.context ?? base.config.context, base.config.context);
    const env = new OrtEnvironment(ortLibrary(), params.threads ?? availableParallelism());
    let format = params.weights;
    if (format !== 'f32' && !(await chooseExactInt8(env))) {
      params.onNotice(
        'int8 products are not exact on this processor; serving float32 weights instead, which are slower.',
      );
      format = 'f32';
    }
    if (format === 'int4' && !(await int4RowsStandAlone(env)))
      params.onNotice(
        'on this processor a row in 4 bit rounds otherwise beside others than alone: the same request may get other words from a busy origin. --weights int8 keeps them.',
      );
    const { slots } = params;
    const plan = planMemory(base.config, { format, context, rows: slots * (1 + PARKING) });
    const available = params.memoryBytes ?? memoryHere();
    const adapterBytes = params.adapterBytes ?? 0;
    const memory = sayMemory(plan, { format, slots, context, adapterBytes, available });
    params.onMemory?.(memory);
    const rotate = format !== 'f32' || params.rotateFloat32 === true;
    const { cacheDir, onProgress } = params;
    const built = await buildGraphs({ base, format, context, rotate, cacheDir, onProgress });
    const weights = readWeights(env, built.weightsPath, built.weights);
    const sessions = openSessions(env, built, weights, onProgress);
    const runner = new OrtRunner({
      base: describeBase(base, format, context),
      config: base.config,
      env,
      sessions,
      weights,
      gains: readGains(base),
      finalGain: foldsGains(base.config) ? base.tensor(FINAL_NORM, [base.config.hidden]) : null,
      rotations: built.rotations,
      slots,
      parking: slots * PARKING,
    });
    return { runner, tokenizerSource };
  } finally {
    base.close();
  }
}
