/**
 * What a base takes of an origin's memory, reckoned from its shape before anything of it is prepared; how many rows
 * then run at once where nobody says, and how many tokens they may hold, also on a device that addresses less than the
 * machine has. Pure.
 */
import {
  BaseModelError,
  LINEAR_KINDS,
  linearShape,
  type LlamaConfig,
  GRAPH_KINDS,
  type GraphKind,
  type GraphFlavour,
  NUMBER_BYTES,
  type Precision,
} from '../model/base-model.ts';
import { PREFILL_CHUNK } from './ort-runner.ts';
import { formatOf, HEAD_PRODUCT, type WeightFormat, BLOCK } from '../model/prepare-weights.ts';

/**
 * Kept for what a step makes, for deltas of the rows and for holes between allocations. Of the 4 GiB of WebAssembly that
 * is 1 GiB: 16 rows of rank 64 on q and v of SmolLM2-135M take 150 MB.
 */
const KEPT_SHARE = 0.25;
/**
 * Taken for granted of a device that does not say how much memory it has, as WebGPU's do not: what integrated GPUs lend
 * and the smallest cards have. A context that is asked for may take more.
 */
export const ASSUMED_BYTES = 4 * 1024 ** 3;
/** Fewer tokens a row are of no use; a shorter context than asked for is never taken. */
const LEAST_CONTEXT = 256;
/** With fewer than these, one graph for all rows is better than three, which are faster by a quarter for base rows. */
const ENOUGH_CONTEXT = 2_048;

export interface FitParams {
  /** null = no limit of its own. */
  addressableBytes: number | null;
  /** Nobody knows, and this much is taken for granted: nothing is refused then. */
  assumed?: boolean;
  /** Whether the second and third session cost next to nothing. */
  sharesWeights: boolean;
  /** One session's weights, bytes. */
  sessionBytes: number;
  /** Of keys and values of all rows, bytes a token. */
  tokenBytes: number;
  /** Tokens a row that the base was trained for. */
  most: number;
  /** Tokens a row that were asked for. */
  asked: number | undefined;
}

interface Fit {
  kinds: readonly GraphKind[];
  /** Tokens a row. */
  context: number;
  /** A sentence for the operator where less is served than was asked for by default; null = all of it. */
  notice: string | null;
}

/**
 * What of a base fits a device: which graphs, and how many tokens a row.
 * @throws BaseModelError that says what would fit.
 */
export function fitDevice(params: FitParams): Fit {
  const { addressableBytes, sessionBytes, tokenBytes } = params;
  const wanted = Math.min(params.asked ?? params.most, params.most);
  if (addressableBytes === null || (params.assumed && params.asked !== undefined))
    return { kinds: GRAPH_KINDS, context: wanted, notice: null };
  const usable = addressableBytes * (1 - KEPT_SHARE);
  const room = (kinds: readonly GraphKind[]): number => {
    const tokens = (usable - sessionBytes * (params.sharesWeights ? 1 : kinds.length)) / tokenBytes;
    return Math.max(0, Math.floor(tokens / PREFILL_CHUNK) * PREFILL_CHUNK);
  };
  const enough = Math.min(wanted, params.asked ?? ENOUGH_CONTEXT);
  const all: readonly GraphKind[] = ['all'];
  const kinds = room(GRAPH_KINDS) >= enough ? GRAPH_KINDS : all;
  const least = Math.min(LEAST_CONTEXT, wanted);
  const context = Math.max(params.assumed ? least : 0, Math.min(wanted, room(kinds)));
  if (context < least || (params.asked !== undefined && context < wanted))
    throw new BaseModelError(
      `this provider addresses ${(addressableBytes / 1e9).toFixed(1)} GB, in which the base leaves room for ${context} tokens a row: fewer --slots, ${params.asked === undefined ? '' : 'a shorter --context, '}--weights int8, a smaller base or --provider cpu`,
    );
  if (context === wanted) return { kinds, context, notice: null };
  const limit = `${(addressableBytes / 1e9).toFixed(1)} GB`;
  const row = `a row has ${context.toLocaleString('en')} tokens, of ${wanted.toLocaleString('en')} that the base was trained for`;
  const notice = params.assumed
    ? `how much memory the GPU has is not known, so ${row}, which fits ${limit}; --context ${wanted} takes more`
    : `this provider addresses ${limit}, so ${row}; fewer --slots leave room for more`;
  return { kinds, context, notice };
}

/**
 * Where rows take memory as they are written. 64 rows of SmolLM2-135M decode 1.5 times as many tokens a second as 16 on
 * two cores, 48 as many as 64; fewer than 4 leave cores idle.
 */
export const FITTING_ROWS = { least: 4, most: 64 } as const;
/** Where all of their memory is taken at the start, so that more of them leave each a shorter context. */
export const FIXED_ROWS = 16;
/**
 * A row is reckoned with so many tokens, or with its context where that is less: most are shorter, and the few that are
 * longer wait until those that run leave them the room.
 */
const TOKENS_A_ROW = 2_048;
/** Of what all else leaves; the rest is for what slots without a row keep, a quarter of this at most, and for the system. */
const ROWS_SHARE = 0.75;

interface FittingRows {
  slots: number;
  /** Of all rows together, those that are preempted too. */
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
  context: number;
  slots?: number | undefined;
  mostRows: number;
}): FittingRows {
  const { available, taken, tokenBytes, context, mostRows } = given;
  const aRow = Math.min(context, TOKENS_A_ROW);
  const room = Math.max(0, Math.floor(((available - taken) * ROWS_SHARE) / tokenBytes));
  const { least, most } = FITTING_ROWS;
  return {
    slots: given.slots ?? Math.max(least, Math.min(most, Math.floor(room / aRow), Math.floor(mostRows / 2))),
    tokens: Math.max(room, least * aRow),
  };
}

const F32 = 4;
/**
 * Bytes of a weight, and of it in the copy that ONNX Runtime packs. In 4 bit each block has a scale and half a byte of
 * zero point, and in the copy a scale and a sum.
 */
const PER_WEIGHT: Record<WeightFormat, { stored: number; packed: number }> = {
  f32: { stored: F32, packed: F32 },
  int8: { stored: 1, packed: 1 },
  int4: { stored: 0.5 + (F32 + 0.5) / BLOCK, packed: 0.5 + (2 * F32) / BLOCK },
};
/** On a GPU. In 8 bit each block has a scale, in 4 bit a zero point too. @param number bytes of one that is not quantized. */
const perWeightOnGpu = (format: WeightFormat, number: number): number =>
  format === 'f32' ? number : format === 'int8' ? 1 + number / BLOCK : 0.5 + (number + 0.5) / BLOCK;
/** Node, ONNX Runtime and all else, bytes, and the tokenizer of each token: what SmolLM2-135M and Gemma 3 270M had. */
const PROCESS_BYTES = 500e6;
const TOKENIZER_BYTES = 2_000;

interface MemoryPlan {
  /** The graphs' tensors, as `weights.bin` has them. */
  weights: number;
  /** One session's: with ONNX Runtime's packed copy of the products' weights. */
  session: number;
  /** All sessions' with the process itself: taken once it serves. Without a GPU's, which hold theirs there. */
  serving: number;
  /** Beside the base's file while its graphs are built: the largest tensor, read and turned. */
  building: number;
  /** Keys and values when every row, preempted ones too, has all of its context. They become resident as written. */
  keysAndValues: number;
}

/**
 * @param given.rows that keys and values are kept of, preempted ones too. @param given.context tokens of each.
 * @param given.sessions that hold weights of their own; 1 where they share them, and by default.
 */
export function planMemory(
  config: LlamaConfig,
  given: {
    format: WeightFormat;
    flavour?: GraphFlavour;
    precision?: Precision;
    rows: number;
    context: number;
    sessions?: number;
  },
): MemoryPlan {
  const { format, flavour = 'cpu', precision = 'f32', rows, context, sessions = 1 } = given;
  const { hidden, vocab, layers, kvHeads, headDim } = config;
  const shapes = LINEAR_KINDS.map((kind) => linearShape(config, kind));
  const products = [
    ...shapes.map((shape) => ({ ...shape, count: layers, format, precision })),
    { in: hidden, out: vocab, count: 1, format: formatOf(HEAD_PRODUCT, format), precision: 'f32' as const },
  ];
  const bytes = (which: 'stored' | 'packed'): number =>
    products.reduce((sum, { in: columns, out, count, format: own }) => {
      // A scale for each output.
      const scales = flavour === 'cpu' && which === 'stored' && own === 'int8' ? out * F32 : 0;
      const weight = flavour === 'cpu' ? PER_WEIGHT[own][which] : perWeightOnGpu(own, F32);
      return sum + count * (columns * out * weight + scales);
    }, 0);
  const onGpu = products.reduce(
    (sum, { in: columns, out, count, format: own, precision }) =>
      sum + count * columns * out * perWeightOnGpu(own, NUMBER_BYTES[precision]),
    vocab * hidden * NUMBER_BYTES[config.postNorms ? 'f32' : precision],
  );
  const weights = vocab * hidden * F32 + bytes('stored');
  const largest = Math.max(...products.map(({ in: columns, out }) => columns * out)) * F32;
  const process = PROCESS_BYTES + vocab * TOKENIZER_BYTES;
  // On a GPU there is no second copy.
  const session = flavour === 'gpu' ? onGpu : weights + bytes('packed');
  return {
    weights,
    session,
    serving: (flavour === 'cpu' ? sessions * session : 0) + process,
    building: 2 * largest + process,
    keysAndValues: 2 * rows * layers * kvHeads * headDim * context * NUMBER_BYTES[precision],
  };
}

/** The next smaller format, as the flag that a refusal names. */
const NEXT_SMALLER: Record<WeightFormat, string> = {
  f32: ', --weights int8',
  int8: ', --weights int4',
  int4: '',
};

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/** @throws BaseModelError when the base by itself does not fit. */
function needMemory(plan: MemoryPlan, format: WeightFormat, available: number): void {
  const least = Math.max(plan.serving, plan.building);
  if (least > available)
    throw new BaseModelError(
      `this base takes ${gigabytes(least)} of memory with ${format} weights, and there are ${gigabytes(available)}: take a smaller base${NEXT_SMALLER[format]} or a larger machine`,
    );
}

/**
 * @param available bytes of this machine, or of what it lets this process have.
 * @returns a sentence for the operator.
 * @throws BaseModelError when the base by itself does not fit.
 */
export function sayMemory(
  plan: MemoryPlan,
  given: {
    format: WeightFormat;
    slots: number;
    /** Rows that can be preempted. */
    swapSlots: number;
    context: number;
    /** Of all rows together, those preempted too. */
    kvTokens: number;
    adapterBytes: number;
    /** For chunks of prompts that are kept. */
    prefixBytes: number;
    available: number;
  },
): string {
  const { format, slots, swapSlots, context, kvTokens, adapterBytes, prefixBytes, available } = given;
  needMemory(plan, format, available);
  const whole = (slots + swapSlots) * context;
  const keysAndValues = plan.keysAndValues * Math.min(1, kvTokens / whole);
  const together = kvTokens < whole ? `, ${kvTokens.toLocaleString('en')} tokens together` : '';
  const most = plan.serving + keysAndValues + adapterBytes + prefixBytes;
  const parts = [
    `${gigabytes(plan.serving)} for the base (${format})`,
    `up to ${gigabytes(keysAndValues)} for keys and values (${slots} rows of ${together === '' ? '' : 'up to '}${context.toLocaleString('en')} tokens, and ${swapSlots === slots ? 'as many' : swapSlots} preempted${together})`,
    `up to ${gigabytes(adapterBytes)} for adapters`,
    ...(prefixBytes > 0 ? [`up to ${gigabytes(prefixBytes)} for prompts that come again`] : []),
  ].join(', ');
  const warning =
    most > available
      ? `. All of it together is more than there is: fewer --slots, a shorter --context, fewer --adapter-ram-bytes or --prefix-cache-bytes keep it within`
      : '';
  return `memory: ${parts}; there are ${gigabytes(available)}${warning}`;
}

/**
 * @param given.available bytes of this machine, which prepares the base.
 * @returns what a GPU's memory is for; how much it has WebGPU does not say.
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
  const copies = sessions === 1 ? '' : `, once for each of ${sessions} graphs that rows need`;
  return `memory of the GPU: ${gigabytes(plan.session)} for the base (${format}${copies}), ${gigabytes(plan.keysAndValues)} for keys and values in ${precision === 'f16' ? 'float16' : 'float32'} (${slots} rows of ${context.toLocaleString('en')} tokens, ${swapSlots} preempted, and one that is read), and the adapters of the rows; where it has less, fewer --slots or a shorter --context`;
}
