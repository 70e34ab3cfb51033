/** Base file or folder -> graphs in the cache -> sessions -> runner. */
import { constants } from 'node:buffer';
import { totalmem } from 'node:os';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { EMBEDDING_MODULE, HEAD_MODULE } from '../../adapters/index.ts';
import {
  attentionLayers,
  type BaseModel,
  type LlamaConfig,
  ofLayer,
  storedLinears,
  storedShape,
  type Precision,
  PRECISIONS,
  wrongOnGpu,
} from '../model/base-model.ts';
import {
  buildDecodingGraphs,
  buildGraphs,
  type Progress,
  writeAdaptingGraph,
} from '../model/build-graphs.ts';
import { calibrationTokens } from '../model/calibration-text.ts';
import { createChatTemplate } from '../model/chat-template.ts';
import { loadBase } from '../model/load-base.ts';
import { loadTokenizer, type TokenizerSource } from '../model/load-tokenizer.ts';
import {
  planMemory,
  sayGpuMemory,
  sayMemory,
  ASSUMED_BYTES,
  fitDevice,
  fittingRows,
  FIXED_ROWS,
  prefixShare,
} from './memory-plan.ts';
import { FINAL_NORM, foldsGains, type WeightFormat } from '../model/prepare-weights.ts';
import { type Device, OrtError, type Provider } from './device.ts';
import { GraphSessions, openFp16, type WriteAdapting } from './bindings.ts';
import { kvCalibration } from './kv-calibration.ts';
import { KV_FORMATS, type KvFormat, tokenBytes, SlotCache } from './kv-cache.ts';
import { openDevice, type OpenProvider, type WantedProvider } from './open-device.ts';
import { OrtRunner, PREFILL_CHUNK } from './ort-runner.ts';
import { readGains } from './adapter-batch.ts';
import { stateBytes } from './row-states.ts';
import { chooseExactInt8, chooseInt4Padding, int8AttentionFault, mostTokens } from './self-test.ts';
import type { LaneChoice } from './step-choice.ts';

/**
 * Swap slots per slot. If three tenants arrive one after the other and each wants all of 16 slots, 13 rows are
 * preempted. Their memory, as much as the slots', becomes resident only when written …
 */
const SWAP_SLOTS = 1;
/** … and if memory for keys and values is short: one of three tenants then waits for rows that end. */
const SCARCE_SWAP_SLOTS = 0.25;

/** `f16` if a GPU supports it and its answers match float32; `f32`; or `auto`. */
export const WANTED_PRECISIONS = ['auto', ...PRECISIONS] as const;
export type WantedPrecision = (typeof WANTED_PRECISIONS)[number];

/** `int8` if a processor has it and its answers match float32 closely; or `auto`. */
export const WANTED_KV = ['auto', ...KV_FORMATS] as const;
export type WantedKv = (typeof WANTED_KV)[number];

export interface CreateRunnerParams {
  /** A .gguf file or a Hugging Face folder. */
  basePath: string;
  baseId?: string | undefined;
  weights: WeightFormat;
  /** Rows that run at once; default: as many as fit in memory. */
  slots?: number | undefined;
  /** Tokens per row; maximum and default: what the base was trained for. */
  context?: number | undefined;
  /** For kept chunks of prompts, bytes; null = by the memory. Default none, and none if addresses are short. */
  prefixBytes?: number | null | undefined;
  /** That adapters may take, bytes. */
  adapterBytes?: number | undefined;
  /** Available memory, bytes; default: this machine's, or this process's limit. */
  memoryBytes?: number | undefined;
  /** Intra-op threads; all cores by default. */
  threads?: number | undefined;
  /** Runtime of the graphs; default `auto`. */
  provider?: WantedProvider | undefined;
  /** Precision of activations; default `auto`: float16 for int8 and int4 if a GPU supports it. */
  precision?: WantedPrecision | undefined;
  /** Format of keys and values on a processor; `auto` keeps float32 beside weights in float32. Default f32. */
  kv?: WantedKv | undefined;
  cacheDir: string;
  /** Called before anything is prepared, with the base's number of tokens; may throw. */
  onTokenizer?: (source: TokenizerSource, vocabSize: number) => void;
  onProgress: Progress;
  /** A sentence for the operator, for example about a fallback. */
  onNotice: (message: string) => void;
  /** Called with the runtime, and why it was chosen. */
  onProvider?: (message: string) => void;
  /** Called with the memory needed, before anything is prepared; a base that does not fit is always refused. */
  onMemory?: (message: string) => void;
  /** Called with the format of keys and values that `auto` chose on a processor, and why. */
  onKv?: (message: string) => void;
  /** Only for tests of the rotation: float32 weights, rotated as int8's are. */
  rotateFloat32?: boolean;
  /**
   * Only for tests, which must not depend on the clock: whether rows run in groups, one core each; default:
   * whichever is faster.
   */
  laneChoice?: LaneChoice;
  /** Only for tests: opens a device. */
  open?: OpenProvider;
}

/** Bytes; a container may have less than its machine. */
function memoryHere(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/** @throws BaseModelError | GgufError | OrtError with a message for the operator. */
export async function createRunner(
  params: CreateRunnerParams,
): Promise<{ runner: OrtRunner; config: LlamaConfig; tokenizerSource: TokenizerSource }> {
  const { base, tokenizerSource } = await loadBase(params.basePath, params.baseId);
  try {
    params.onTokenizer?.(tokenizerSource, base.config.vocab);
    const { device, message } = await openDevice({
      provider: params.provider ?? 'auto',
      threads: params.threads,
      noGpu: wrongOnGpu(base.config),
      ...(params.open === undefined ? {} : { open: params.open }),
    });
    try {
      const kernels = await chooseKernels(device, params);
      const without = withoutVnni(device, kernels);
      params.onProvider?.(without === null ? message : `${message}, ${without}`);
      const precision = await choosePrecision(device, params);
      const kv = await chooseKv(device, base, params);
      const loaded = { base, tokenizerSource };
      return {
        runner: await openRunner(loaded, device, params, { precision, kv, kernels }),
        config: base.config,
        tokenizerSource,
      };
    } catch (error) {
      await device.close();
      throw error;
    }
  } finally {
    base.close();
  }
}

/** The precision to try first. @throws OrtError when float16 is requested but missing. */
async function choosePrecision(device: Device, params: CreateRunnerParams): Promise<Precision> {
  const { precision: wanted = 'auto', weights } = params;
  // Weights in float32 are the reference for others.
  if (wanted === 'f32' || (wanted === 'auto' && weights === 'f32')) return 'f32';
  if ((await device.own?.hasFp16()) === true) return 'f16';
  if (wanted === 'auto') return 'f32';
  const missing =
    device.own === null
      ? `provider ${device.provider} computes in float32; float16 needs a GPU (--provider webgpu)`
      : "this GPU or its driver does not support float16 (WebGPU's shader-f16)";
  throw new OrtError('--precision f16', -1, `${missing}. Remove --precision, or set it to f32`);
}

/** Checks attention with the heads of each kind of layer. */
async function eachHeads<T>(config: LlamaConfig, check: (heads: LlamaConfig) => Promise<T>): Promise<T[]> {
  const kinds = new Map<string, LlamaConfig>();
  for (let layer = 0; layer < config.layers; layer++) {
    const own = ofLayer(config, layer);
    kinds.set(`${own.kvHeads} ${own.headDim}`, own);
  }
  const results: T[] = [];
  for (const heads of kinds.values()) results.push(await check(heads));
  return results;
}

/** The format to try first. @throws OrtError when int8 is requested but cannot be served. */
async function chooseKv(
  device: Device,
  { config }: BaseModel,
  { kv: wanted = 'f32', weights, onKv }: CreateRunnerParams,
): Promise<KvFormat> {
  if (wanted === 'f32') return 'f32';
  // Weights in float32 are the reference for others.
  if (wanted === 'auto' && (device.provider !== 'cpu' || weights === 'f32')) return 'f32';
  const fault =
    device.provider === 'cpu'
      ? ((await eachHeads(config, (heads) => int8AttentionFault(device, heads))).find(
          (one) => one !== null,
        ) ?? null)
      : `provider ${device.provider} keeps keys and values in float32 or float16; int8 needs --provider cpu`;
  if (fault === null) return 'int8';
  if (wanted === 'auto') {
    onKv?.(`keys and values: float32, because ${fault}`);
    return 'f32';
  }
  throw new OrtError('--kv int8', -1, `${fault}. Remove --kv, or set it to f32`);
}

/**
 * Largest mean KL that int8 keys and values may add on the control texts to be chosen by `auto`, nats a token: 0.003 is the
 * most on long texts, and their 192 tokens have a standard error of 0.0003, so three of these are allowed for; …
 */
const MOST_KV_DIVERGENCE = 0.004;
/** … and that passes without a notice where int8 is requested. */
const MUCH_KV_DIVERGENCE = 0.02;

/** @returns what int8 products do where ONNX Runtime's kernel is not exact with any weights; null elsewhere. */
function withoutVnni(device: Device, { format, limitsPairs }: Kernels): string | null {
  if (format === 'f32' || !(limitsPairs || device.preciseInt8)) return null;
  const kernel = 'int8 kernel adds pairs of products in 16 bits (x86 without VNNI)';
  return limitsPairs
    ? `whose ${kernel}: int8 weights are rounded a little more coarsely, so that sums are exact`
    : `whose faster ${kernel}: the slower one is used`;
}

/** How products of a base's weights run on this processor. */
interface Kernels {
  format: WeightFormat;
  /** As `quantizeLinear` takes it. */
  limitsPairs: boolean;
  /** As `Int4Products` takes it. */
  padsLoneRow: boolean;
  /** Whether a row has the same bits alone and in any batch. */
  bits: boolean;
}

/** Tests kernels, and selects the fastest exact ones. */
async function chooseKernels(device: Device, params: CreateRunnerParams): Promise<Kernels> {
  const { weights: format, onNotice } = params;
  const unlimited = { format, limitsPairs: false, padsLoneRow: false, bits: false };
  if (device.flavour !== 'cpu' || format === 'f32') return unlimited;
  const limitsPairs = await chooseExactInt8(device);
  if (limitsPairs === null) {
    onNotice(
      'int8 products are not exact on this processor; serving float32 weights instead, which are slower.',
    );
    return { ...unlimited, format: 'f32' };
  }
  const kernels = { ...unlimited, limitsPairs };
  // Sums of int8 products are exact whatever their order; those of float32 are not.
  if (format === 'int8') return { ...kernels, bits: true };
  const padsLoneRow = await chooseInt4Padding(device);
  if (padsLoneRow !== null) return { ...kernels, padsLoneRow, bits: true };
  onNotice(
    'on this processor, 4-bit rows round differently in a batch than alone: the same request may get ' +
      'other words from a busy origin. Use --weights int8 to avoid that.',
  );
  return kernels;
}

async function openRunner(
  loaded: { base: BaseModel; tokenizerSource: TokenizerSource },
  device: Device,
  params: CreateRunnerParams,
  chosen: { precision: Precision; kv: KvFormat; kernels: Kernels },
): Promise<OrtRunner> {
  const { base } = loaded;
  const { precision, kv, kernels } = chosen;
  const { cacheDir, onProgress, adapterBytes = 0 } = params;
  const { flavour } = device;
  const { format, padsLoneRow, limitsPairs, bits } = kernels;
  const { addressableBytes, sharesWeights, provider, own } = device;
  const roomy = addressableBytes === null && own === null;
  const available = params.memoryBytes ?? memoryHere();
  const most = base.config.context;
  const aToken = tokenBytes(base.config, kv);
  const aState = stateBytes(base.config);
  const blockBytes = PREFILL_CHUNK * aToken + aState;
  const bare = planMemory(base.config, { format, flavour, context: 0, rows: 0 });
  const wanted =
    params.prefixBytes === null ? prefixShare(available - bare.serving) : (params.prefixBytes ?? 0);
  const blocks = roomy ? Math.floor(wanted / blockBytes) : 0;
  const prefixBytes = blocks * blockBytes;
  const asked = Math.min(params.context ?? most, most);
  const fitting = fittingRows({
    ...{ available, taken: bare.serving + adapterBytes + prefixBytes, slots: params.slots },
    ...{ tokenBytes: aToken, context: asked, readingBytes: kv === 'int8' ? tokenBytes(base.config) : 0 },
    rowBytes: aState,
    // Each layer's keys of all rows and kept chunks are one buffer.
    mostRows:
      Math.floor(
        (2 * attentionLayers(base.config).length * constants.MAX_LENGTH - prefixBytes) / (aToken * asked),
      ) - 1,
  });
  const slots = roomy ? fitting.slots : (params.slots ?? FIXED_ROWS);
  const swapSlots = Math.ceil(slots * (roomy ? SWAP_SLOTS : SCARCE_SWAP_SLOTS));
  // One is read beside the others if no tensor may begin inside another.
  const rows = slots + swapSlots + (own === null ? 0 : 1);
  const one = planMemory(base.config, { format, flavour, precision, context: 1, rows });
  const { kinds, context, notice, spare } = fitDevice({
    ...{ addressableBytes: own === null ? addressableBytes : ASSUMED_BYTES, assumed: own !== null },
    ...{ sharesWeights, most, asked: params.context },
    sessionBytes: one.session,
    tokenBytes: one.keysAndValues,
    stateBytes: one.states,
  });
  if (notice !== null) params.onNotice(notice);
  const copies = sharesWeights ? 1 : kinds.length;
  const plan = planMemory(base.config, { format, flavour, precision, kv, context, rows, sessions: copies });
  const kvTokens = roomy ? Math.min(fitting.tokens, rows * context) : rows * context;
  const given = { format, slots, swapSlots, context, kvTokens, kv, adapterBytes, prefixBytes, available };
  const memory =
    own === null ? sayMemory(plan, given) : sayGpuMemory(plan, { ...given, precision, sessions: copies });
  params.onMemory?.(memory);
  const rotate = format !== 'f32' || params.rotateFloat32 === true;
  const built = await buildGraphs({
    ...{ base, format, flavour, padsLoneRow, limitsPairs, context, rotate, cacheDir, onProgress },
  });
  const { config } = base;
  const decoding =
    kv === 'int8'
      ? await buildDecodingGraphs(
          built,
          { base, format, padsLoneRow, context },
          kvCalibration({
            device,
            config,
            built,
            texts: () => textsFor(loaded.tokenizerSource, context, onProgress),
          }),
        )
      : null;
  if (decoding !== null && !keepsKv(decoding.divergence, params))
    return openRunner(loaded, device, params, { ...chosen, kv: 'f32' });
  // After it is closed, the base still has its configuration.
  const graph = { base, format, flavour, precision, padsLoneRow, context };
  const writeAdapting: WriteAdapting | null = !spare
    ? null
    : (which) =>
        writeAdaptingGraph(built, {
          ...graph,
          ...(which === 'first' ? { layers: built.parts[0]! } : {}),
          kvScales: which === 'decoding' ? (decoding?.scales ?? null) : null,
        });
  const chunk =
    own === null
      ? PREFILL_CHUNK
      : Math.min(
          ...(await eachHeads(config, (heads) => mostTokens(device, own, heads, PREFILL_CHUNK, precision))),
        );
  if (chunk < PREFILL_CHUNK)
    params.onNotice(
      `attention over many tokens is wrong on this GPU: prompts are read ${chunk} tokens at a time, ` +
        'which is slower.',
    );
  const sessions =
    precision === 'f16' && own !== null
      ? await openFp16({ device, own, config, built, kinds, chunk, writeAdapting, onProgress })
      : await GraphSessions.open({ device, built, decoding, kinds, writeAdapting, onProgress });
  if (typeof sessions === 'string') {
    params.onNotice(`serving float32, because on this GPU ${sessions}.`);
    return openRunner(loaded, device, params, { ...chosen, precision: 'f32' });
  }
  return OrtRunner.open({
    base: describeBase(base, { format, context, provider, precision, kv, bits, adaptsEmbedding: spare }),
    ...{ config, precision, device, sessions, kvScales: decoding?.scales ?? null },
    gains: readGains(base),
    finalGain: foldsGains(base.config) ? base.tensor(FINAL_NORM, [base.config.hidden]) : null,
    rotations: built.rotations,
    slots,
    swapSlots,
    kvTokens,
    blocks,
    chunk,
    ...(own === null ? {} : { openCache: (rows) => SlotCache.allocate({ ...rows, own, precision }) }),
    ...(params.laneChoice === undefined ? {} : { laneChoice: params.laneChoice }),
  });
}

/** Whether int8 keys and values are served that add this mean KL; says so. */
function keepsKv(divergence: number, { kv, onKv, onNotice }: CreateRunnerParams): boolean {
  const kl = Math.max(0, divergence).toPrecision(2);
  if (kv !== 'auto') {
    if (divergence > MUCH_KV_DIVERGENCE)
      onNotice(
        "this base's keys and values in int8 differ much from those in float32 (mean KL " +
          `${kl}); --kv f32 serves exact ones.`,
      );
    return true;
  }
  const keeps = divergence <= MOST_KV_DIVERGENCE;
  onKv?.(
    keeps
      ? `keys and values: int8 (mean KL ${kl} to float32)`
      : `keys and values: float32, because int8 changes this base's answers too much (mean KL ${kl}; ` +
          `at most ${MOST_KV_DIVERGENCE})`,
  );
  return keeps;
}

/** @throws TokenizerError when the base has no tokenizer that works. */
function textsFor(
  tokenizerSource: TokenizerSource,
  context: number,
  onProgress: Progress,
): ReturnType<typeof calibrationTokens> {
  onProgress('Measuring keys and values', 0, 1);
  const tokenizer = loadTokenizer(tokenizerSource);
  return calibrationTokens(tokenizer, createChatTemplate(tokenizer), context);
}

/** Largest rank sum of a chain; a row's delta then costs at most 8x that of rank 32. */
const MAX_RANK_SUM = 256;

/** The base's properties for others. */
export function describeBase(
  base: BaseModel,
  served: {
    format: WeightFormat;
    context: number;
    provider: Provider;
    /** float32 unless given. */
    precision?: Precision;
    /** float32, or the precision, unless given. */
    kv?: KvFormat;
    bits: boolean;
    /** Whether there is room for the graphs that it takes. */
    adaptsEmbedding: boolean;
  },
): BaseInfo {
  const { format, context, provider, precision, kv, bits, adaptsEmbedding } = served;
  const modules = [];
  for (let layer = 0; layer < base.config.layers; layer++)
    for (const linear of storedLinears(base.config, layer))
      modules.push({ name: linear.name, ...storedShape(ofLayer(base.config, layer), linear) });
  const { hidden, vocab } = base.config;
  // Embeddings of each layer are made from the tokens' in every part of the graphs.
  if (adaptsEmbedding && base.config.layerEmbedding === null)
    modules.push({ name: EMBEDDING_MODULE, in: vocab, out: hidden });
  modules.push({ name: HEAD_MODULE, in: hidden, out: vocab });
  return {
    id: base.id,
    digest: base.digest,
    weights: format,
    context,
    vocabulary: base.config.vocab,
    hidden: base.config.hidden,
    max_rank_sum: MAX_RANK_SUM,
    provider,
    ...(precision === 'f16' ? { precision } : {}),
    ...(kv === 'int8' ? { kv } : {}),
    promise: bits ? 'bits' : 'tolerance',
    architecture: base.config.family,
    attention: { heads: base.config.heads, kv_heads: base.config.kvHeads },
    modules,
  };
}
