/** What a base takes of an origin's memory, reckoned from its shape before anything of it is prepared. */
import { BaseModelError, LINEAR_KINDS, linearShape, type LlamaConfig } from './base-model.ts';
import { type GraphFlavour, NUMBER_BYTES, type Precision } from './graph-form.ts';
import { formatOf, HEAD_PRODUCT, type WeightFormat } from './prepare-weights.ts';
import { BLOCK } from './quantize.ts';

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

export interface MemoryPlan {
  /** The graphs' tensors, as `weights.bin` has them. */
  weights: number;
  /** One session's: with ONNX Runtime's packed copy of the products' weights. */
  session: number;
  /** All sessions' with the process itself: taken once it serves. Without a GPU's, which hold theirs there. */
  serving: number;
  /** Beside the base's file while its graphs are built: the largest tensor, read and turned. */
  building: number;
  /** Keys and values when every row, parked ones too, has all of its context. They become resident as written. */
  keysAndValues: number;
}

/**
 * @param given.rows that keys and values are kept of, parked ones too. @param given.context tokens of each.
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
    /** Rows that can be set aside. */
    parking: number;
    context: number;
    /** Of all rows together, those set aside too. */
    kvTokens: number;
    adapterBytes: number;
    /** For chunks of prompts that are kept. */
    prefixBytes: number;
    available: number;
  },
): string {
  const { format, slots, parking, context, kvTokens, adapterBytes, prefixBytes, available } = given;
  needMemory(plan, format, available);
  const whole = (slots + parking) * context;
  const keysAndValues = plan.keysAndValues * Math.min(1, kvTokens / whole);
  const together = kvTokens < whole ? `, ${kvTokens.toLocaleString('en')} tokens together` : '';
  const most = plan.serving + keysAndValues + adapterBytes + prefixBytes;
  const parts = [
    `${gigabytes(plan.serving)} for the base (${format})`,
    `up to ${gigabytes(keysAndValues)} for keys and values (${slots} rows of ${together === '' ? '' : 'up to '}${context.toLocaleString('en')} tokens, and ${parking === slots ? 'as many' : parking} set aside${together})`,
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
    parking: number;
    context: number;
    sessions: number;
    available: number;
  },
): string {
  const { format, precision, slots, parking, context, sessions } = given;
  needMemory(plan, format, given.available);
  const copies = sessions === 1 ? '' : `, once for each of ${sessions} graphs that rows need`;
  return `memory of the GPU: ${gigabytes(plan.session)} for the base (${format}${copies}), ${gigabytes(plan.keysAndValues)} for keys and values in ${precision === 'f16' ? 'float16' : 'float32'} (${slots} rows of ${context.toLocaleString('en')} tokens, ${parking} set aside, and one that is read), and the adapters of the rows; where it has less, fewer --slots or a shorter --context`;
}
