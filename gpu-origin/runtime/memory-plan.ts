/**
 * Memory of a base, estimated from its shape before anything is prepared; the default number of rows, and
 * tokens per row, also on a device that addresses less than the machine has. Pure.
 */
import {
  BaseModelError,
  linearShapes,
  type LlamaConfig,
  GRAPH_KINDS,
  type GraphKind,
  type GraphFlavour,
  NUMBER_BYTES,
  type Precision,
} from '../model/base-model.ts';
import { type KvFormat, tokenBytes } from './kv-cache.ts';
import { stateBytes } from './row-states.ts';
import { PREFILL_CHUNK } from './ort-runner.ts';
import { formatOf, HEAD_PRODUCT, type WeightFormat, BLOCK } from '../model/prepare-weights.ts';

/**
 * Reserve for a step's buffers, for deltas of rows and for fragmentation. Of the 4 GiB of WebAssembly that is 1
 * GiB: 16 rows of rank 64 on q and v of SmolLM2-135M take 150 MB.
 */
const KEPT_SHARE = 0.25;
/**
 * Assumed for a device that does not report its memory, as with WebGPU: what integrated GPUs get and the
 * smallest cards have. A requested context may exceed it.
 */
export const ASSUMED_BYTES = 4 * 1024 ** 3;
/** Fewer tokens per row are useless; a context is never shortened below the requested one. */
const LEAST_CONTEXT = 256;
/**
 * With fewer than these, one graph for all rows is better than three, which are faster by a quarter for base
 * rows.
 */
const ENOUGH_CONTEXT = 2_048;

export interface FitParams {
  /** null = no limit of its own. */
  addressableBytes: number | null;
  /** Unknown, so this much is assumed: nothing is refused then. */
  assumed?: boolean;
  /** Whether the second and third session cost almost nothing. */
  sharesWeights: boolean;
  /** One session's weights, bytes. */
  sessionBytes: number;
  /** Keys and values of all rows, bytes per token. */
  tokenBytes: number;
  /** Of all rows, whatever their length; none unless given. */
  stateBytes?: number;
  /** Tokens per row that the base was trained for. */
  most: number;
  /** Requested tokens per row. */
  asked: number | undefined;
}

interface Fit {
  kinds: readonly GraphKind[];
  /** Tokens per row. */
  context: number;
  /** A sentence for the operator if less than the default is served; null = all of it. */
  notice: string | null;
  /** Whether there is room for one more session, in half of what is kept for steps. */
  spare: boolean;
}

/**
 * How a base fits a device: its graphs, and tokens per row.
 * @throws BaseModelError that suggests what would fit.
 */
export function fitDevice(params: FitParams): Fit {
  const { addressableBytes, sessionBytes, tokenBytes, stateBytes = 0 } = params;
  const wanted = Math.min(params.asked ?? params.most, params.most);
  if (addressableBytes === null || (params.assumed && params.asked !== undefined))
    return { kinds: GRAPH_KINDS, context: wanted, notice: null, spare: true };
  const usable = addressableBytes * (1 - KEPT_SHARE);
  const room = (kinds: readonly GraphKind[]): number => {
    const sessions = sessionBytes * (params.sharesWeights ? 1 : kinds.length);
    const tokens = (usable - sessions - stateBytes) / tokenBytes;
    return Math.max(0, Math.floor(tokens / PREFILL_CHUNK) * PREFILL_CHUNK);
  };
  const enough = Math.min(wanted, params.asked ?? ENOUGH_CONTEXT);
  const all: readonly GraphKind[] = ['all'];
  const kinds = room(GRAPH_KINDS) >= enough ? GRAPH_KINDS : all;
  const least = Math.min(LEAST_CONTEXT, wanted);
  const context = Math.max(params.assumed ? least : 0, Math.min(wanted, room(kinds)));
  if (context < least || (params.asked !== undefined && context < wanted))
    throw new BaseModelError(
      `this provider addresses ${(addressableBytes / 1e9).toFixed(1)} GB, where the base leaves only ` +
        `${context} tokens a row. Use fewer --slots, ` +
        `${params.asked === undefined ? '' : 'a shorter --context, '}--weights int8, a smaller base or ` +
        '--provider cpu',
    );
  const held = sessionBytes * (kinds.length + 1) + stateBytes + tokenBytes * context;
  const spare = params.sharesWeights || held <= addressableBytes * (1 - KEPT_SHARE / 2);
  if (context === wanted) return { kinds, context, notice: null, spare };
  const limit = `${(addressableBytes / 1e9).toFixed(1)} GB`;
  const row =
    `a row has ${context.toLocaleString('en')} of the ${wanted.toLocaleString('en')} tokens that the ` +
    'base was trained for';
  const notice = params.assumed
    ? `the GPU's memory size is unknown, so ${row}, which fits ${limit}; --context ${wanted} allows more`
    : `this provider addresses ${limit}, so ${row}; fewer --slots leave room for more`;
  return { kinds, context, notice, spare };
}

/**
 * For memory that rows take as they are written. 64 rows of SmolLM2-135M decode 1.5 times as many tokens a
 * second as 16 on two cores, 48 as many as 64; fewer than 4 leave cores idle.
 */
export const FITTING_ROWS = { least: 4, most: 64 } as const;
/** For memory that is taken at the start, so that more rows leave each a shorter context. */
export const FIXED_ROWS = 16;
/**
 * Estimated tokens per row, or its context if that is less: most rows are shorter, and the few longer ones wait
 * until there is room.
 */
const TOKENS_A_ROW = 2_048;
/**
 * Share of the remaining memory; the rest is for what empty slots keep, at most a quarter of this, and for the
 * system.
 */
const ROWS_SHARE = 0.75;

interface FittingRows {
  slots: number;
  /** Over all rows, including preempted ones. */
  tokens: number;
}

/**
 * @param given.available bytes that there are. @param given.taken bytes of them for all else: base, adapters, prompts that
 * are kept. @param given.tokenBytes keys and values of one token. @param given.context tokens that a row may have.
 * @param given.slots rows that were asked for. @param given.mostRows that keys and values can be allocated for, as many
 * preempted as run.
 */
export function fittingRows(given: {
  available: number;
  taken: number;
  tokenBytes: number;
  /** Bytes of a token of the row that is read, if it has memory of its own. */
  readingBytes?: number;
  /** Bytes of a row besides, whatever its length; none unless given. As many rows are preempted as run. */
  rowBytes?: number;
  context: number;
  slots?: number | undefined;
  mostRows: number;
}): FittingRows {
  const { available, taken, tokenBytes, readingBytes = 0, rowBytes = 0, context, mostRows } = given;
  const aRow = Math.min(context, TOKENS_A_ROW);
  const rowsBytes = (available - taken - aRow * readingBytes) * ROWS_SHARE;
  const { least, most } = FITTING_ROWS;
  const fit = Math.max(0, Math.floor(rowsBytes / (aRow * tokenBytes + 2 * rowBytes)));
  const slots = given.slots ?? Math.max(least, Math.min(most, fit, Math.floor(mostRows / 2)));
  const room = Math.max(0, Math.floor((rowsBytes - 2 * slots * rowBytes) / tokenBytes));
  return { slots, tokens: Math.max(room, least * aRow) };
}

/**
 * Bytes for chunks of prompts that may be reused: an eighth of what the base leaves. On 16 GB that is 41,000 tokens of
 * SmolLM2-135M. Conversations that go on and do not fit are read anew at each turn.
 */
export const prefixShare = (left: number): number => Math.max(2 ** 28, left / 8);

const F32 = 4;
/**
 * Bytes of a weight, and in ONNX Runtime's packed copy. In 4 bit each block has a scale and half a byte of zero
 * point, and in the copy a scale and a sum.
 */
const PER_WEIGHT: Record<WeightFormat, { stored: number; packed: number }> = {
  f32: { stored: F32, packed: F32 },
  int8: { stored: 1, packed: 1 },
  int4: { stored: 0.5 + (F32 + 0.5) / BLOCK, packed: 0.5 + (2 * F32) / BLOCK },
};
/** On a GPU. In 8 bit each block has a scale, in 4 bit a zero point too. @param number bytes of one that is not quantized. */
const perWeightOnGpu = (format: WeightFormat, number: number): number =>
  format === 'f32' ? number : format === 'int8' ? 1 + number / BLOCK : 0.5 + (number + 0.5) / BLOCK;
/**
 * Node, ONNX Runtime and everything else, bytes, and the tokenizer per token: measured with SmolLM2-135M and
 * Gemma 3 270M.
 */
const PROCESS_BYTES = 500e6;
const TOKENIZER_BYTES = 2_000;

const kvTokenBytes = (config: LlamaConfig, kv: KvFormat, precision: Precision): number =>
  precision === 'f16' ? tokenBytes(config) / 2 : tokenBytes(config, kv);

/** A row in float32 beside those in int8, where prompts are read. */
const readingBytes = (config: LlamaConfig, kv: KvFormat, context: number): number =>
  kv === 'int8' ? context * tokenBytes(config) : 0;

interface MemoryPlan {
  /** The graphs' tensors, as `weights.bin` has them. */
  weights: number;
  /** One session's: with ONNX Runtime's packed copy of the products' weights. */
  session: number;
  /** All sessions and the process itself, while serving. Without a GPU's, which are in its memory. */
  serving: number;
  /** In addition to the base's file while its graphs are built: the largest tensor, read and transposed. */
  building: number;
  /**
   * Keys and values when every row, including preempted ones, has all of its context. They become resident when
   * written.
   */
  keysAndValues: number;
  /** Of layers without attention, of all rows. */
  states: number;
}

/**
 * @param given.rows with keys and values, including preempted ones. @param given.context tokens of each.
 * @param given.sessions with weights of their own; 1 if they share them (default).
 */
export function planMemory(
  config: LlamaConfig,
  given: {
    format: WeightFormat;
    flavour?: GraphFlavour;
    precision?: Precision;
    /** Of keys and values on a processor; float32 unless given. */
    kv?: KvFormat;
    rows: number;
    context: number;
    sessions?: number;
  },
): MemoryPlan {
  const { format, flavour = 'cpu', precision = 'f32', kv = 'f32', rows, context, sessions = 1 } = given;
  const { hidden, vocab, layers, experts, layerEmbedding } = config;
  const products = [
    ...linearShapes(config, 'all').map((shape) => ({ ...shape, format, precision })),
    { in: hidden, out: layers * (layerEmbedding ?? 0), format, precision },
    { in: hidden, out: vocab, format: formatOf(HEAD_PRODUCT, format), precision: 'f32' as const },
  ];
  // Of embeddings of each layer: numbers of each token's, and a scale if they are bytes.
  const isInBytes = format !== 'f32';
  const ofToken = layerEmbedding === null ? 0 : isInBytes ? layerEmbedding + F32 : layerEmbedding * F32;
  // ONNX Runtime has no Gather of bytes for WebGPU: it runs on the processor, and only the rows go to the GPU.
  const besideGpu = flavour === 'gpu' && isInBytes ? vocab * layers * (layerEmbedding ?? 0) : 0;
  const bytes = (which: 'stored' | 'packed'): number =>
    products.reduce((sum, { in: columns, out, format: own }) => {
      // One scale per output.
      const scales = flavour === 'cpu' && which === 'stored' && own === 'int8' ? out * F32 : 0;
      const weight = flavour === 'cpu' ? PER_WEIGHT[own][which] : perWeightOnGpu(own, F32);
      return sum + columns * out * weight + scales;
    }, 0);
  const onGpu = products.reduce(
    (sum, { in: columns, out, format: own, precision }) =>
      sum + columns * out * perWeightOnGpu(own, NUMBER_BYTES[precision]),
    vocab * (hidden * NUMBER_BYTES[config.postNorms ? 'f32' : precision] + layers * ofToken) - besideGpu,
  );
  const routers = layers * hidden * (experts?.count ?? 0) * F32;
  const weights = vocab * (hidden * F32 + layers * ofToken) + routers + bytes('stored');
  const largest = Math.max(...products.map(({ in: columns, out }) => columns * out)) * F32;
  const process = PROCESS_BYTES + vocab * TOKENIZER_BYTES;
  // On a GPU there is no second copy.
  const session = flavour === 'gpu' ? onGpu : weights + routers + bytes('packed');
  return {
    weights,
    session,
    serving: (flavour === 'cpu' ? sessions * session : besideGpu) + process,
    building: 2 * largest + expertsRead(config) + process,
    keysAndValues: rows * context * kvTokenBytes(config, kv, precision) + readingBytes(config, kv, context),
    states: rows * stateBytes(config),
  };
}

/** The next smaller format, as the flag named in an error. */
const NEXT_SMALLER: Record<WeightFormat, string> = {
  f32: ', --weights int8',
  int8: ', --weights int4',
  int4: '',
};

/** Tensors of all experts of a layer, where they are not stored one by one: gate and up stay while both are read. */
const expertsRead = ({ experts, hidden, ffn }: LlamaConfig): number =>
  experts === null || experts.storage === 'each' ? 0 : 3 * experts.count * hidden * ffn * F32;

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/** @throws BaseModelError when the base alone does not fit. */
function needMemory(plan: MemoryPlan, format: WeightFormat, available: number): void {
  const least = Math.max(plan.serving, plan.building);
  if (least > available)
    throw new BaseModelError(
      `this base takes ${gigabytes(least)} of memory with ${format} weights, but only ` +
        `${gigabytes(available)} are available. Use a smaller base${NEXT_SMALLER[format]} or a larger ` +
        'machine',
    );
}

/**
 * @param available bytes of this machine, or this process's limit.
 * @returns a sentence for the operator.
 * @throws BaseModelError when the base alone does not fit.
 */
export function sayMemory(
  plan: MemoryPlan,
  given: {
    format: WeightFormat;
    slots: number;
    /** Rows that can be preempted. */
    swapSlots: number;
    context: number;
    /** Over all rows, including preempted ones. */
    kvTokens: number;
    /** Of keys and values; float32 unless given. */
    kv?: KvFormat;
    adapterBytes: number;
    /** For chunks of prompts that are kept. */
    prefixBytes: number;
    available: number;
  },
): string {
  const { format, slots, swapSlots, context, kvTokens, kv, adapterBytes, prefixBytes, available } = given;
  needMemory(plan, format, available);
  const whole = (slots + swapSlots) * context;
  const keysAndValues = plan.keysAndValues * Math.min(1, kvTokens / whole);
  const together = kvTokens < whole ? `, ${kvTokens.toLocaleString('en')} tokens in total` : '';
  const most = plan.serving + keysAndValues + plan.states + adapterBytes + prefixBytes;
  const parts = [
    `${gigabytes(plan.serving)} for the base (${format})`,
    `up to ${gigabytes(keysAndValues)} for keys and values${kv === 'int8' ? ' in int8' : ''} (${slots} rows of ${together === '' ? '' : 'up to '}${context.toLocaleString('en')} tokens, and ${swapSlots === slots ? 'as many' : swapSlots} preempted${together})`,
    ...(plan.states > 0 ? [`up to ${gigabytes(plan.states)} for states of linear attention`] : []),
    `up to ${gigabytes(adapterBytes)} for adapters`,
    ...(prefixBytes > 0 ? [`up to ${gigabytes(prefixBytes)} for prompts that are reused`] : []),
  ].join(', ');
  const warning =
    most > available
      ? '. This is more than is available: use fewer --slots, a shorter --context, or smaller ' +
        '--adapter-ram-bytes or --prefix-cache-bytes'
      : '';
  return `memory: ${parts}; ${gigabytes(available)} available${warning}`;
}

/**
 * @param given.available bytes of this machine, which prepares the base.
 * @returns the uses of a GPU's memory, whose size WebGPU does not report.
 * @throws BaseModelError when the base cannot be prepared.
 */
export function sayGpuMemory(
  plan: MemoryPlan,
  given: {
    format: WeightFormat;
    precision: Precision;
    slots: number;
    swapSlots: number;
    context: number;
    sessions: number;
    available: number;
  },
): string {
  const { format, precision, slots, swapSlots, context, sessions } = given;
  needMemory(plan, format, given.available);
  const copies = sessions === 1 ? '' : `, once for each of ${sessions} graphs`;
  return (
    `GPU memory: ${gigabytes(plan.session)} for the base (${format}${copies}), ` +
    `${gigabytes(plan.keysAndValues)} for keys and values in ` +
    `${precision === 'f16' ? 'float16' : 'float32'} (${slots} rows of ${context.toLocaleString('en')} ` +
    `tokens, ${swapSlots} preempted, and one that is read), ` +
    (plan.states > 0 ? `${gigabytes(plan.states)} for states of linear attention, ` : '') +
    'and the adapters of the rows. If the GPU has ' +
    'less, use fewer --slots or a shorter --context'
  );
}
