import {
  LogitBins,
  logSumExp,
  maskedPeak,
  maskedRow,
  peak,
  type Peak,
  type Logits,
  type Row,
  topIds,
  type Weighed,
} from './logits.ts';
import type { LogitAdjustments, SamplingParams } from './sampling-params.ts';

/** Below this a division by the temperature overflows float32's range of useful differences: greedy. */
const MIN_TEMPERATURE = 1e-5;

interface Scored {
  readonly id: number;
  readonly logprob: number;
}

interface Sample {
  readonly id: number;
  /** The model's own: before bias, penalties, temperature and truncation; null unless asked for. */
  readonly logprob: number | null;
  /** Likeliest first; empty unless asked for. */
  readonly top: readonly Scored[];
}

/** Shared by all samplers, since nothing awaits between its filling and its last use. */
const bins = new LogitBins();

/** Chooses one sequence's tokens. */
export class Sampler {
  readonly #params: SamplingParams;
  readonly #random: () => number;
  /** null: the logits are sampled as they are. */
  readonly #adjusted: AdjustedLogits | null;

  /**
   * @param random uniform in [0, 1), used when the request has no seed.
   * @param prompt token ids; only a repetition penalty looks at them.
   */
  constructor(params: SamplingParams, random: () => number, prompt: readonly number[] = []) {
    this.#params = params;
    this.#random = params.seed === null ? random : seededRandom(params.seed);
    this.#adjusted = params.adjustments === null ? null : new AdjustedLogits(params.adjustments, prompt);
  }

  /**
   * @param logits row-major; this sequence's row is `[length]` from `offset`.
   * @param mask tokens that may be chosen, a bit each and one at least; null = all of them.
   * @returns null when a logit is not finite.
   */
  sample(
    logits: Float32Array,
    offset: number,
    length: number,
    mask: Int32Array | null = null,
  ): Sample | null {
    const top = peak(logits, offset, length);
    if (top === null) return null;
    const id =
      this.#adjusted !== null
        ? this.#chooseAdjusted(this.#adjusted, { logits, offset, length }, mask)
        : mask === null
          ? this.#choose(logits, offset, length, top)
          : this.#chooseMasked({ logits, offset, length }, mask);
    const { logprobs } = this.#params;
    return logprobs === null
      ? { id, logprob: null, top: [] }
      : scoreAt({ logits, offset, length, max: top.max, id, count: logprobs });
  }

  #chooseAdjusted(
    adjusted: AdjustedLogits,
    { logits, offset, length }: Logits,
    mask: Int32Array | null,
  ): number {
    const row = adjusted.of(logits, offset, length);
    // Adjusted logits are finite whenever the model's are.
    const id =
      mask === null
        ? this.#choose(row, 0, length, peak(row, 0, length)!)
        : this.#chooseMasked({ logits: row, offset: 0, length }, mask);
    adjusted.add(id);
    return id;
  }

  #chooseMasked(from: Logits, mask: Int32Array): number {
    if (this.#isGreedy) return maskedPeak(from, mask).id;
    const { row, top } = maskedRow(from, mask);
    return this.#choose(row, 0, from.length, top);
  }

  get #isGreedy(): boolean {
    return this.#params.temperature < MIN_TEMPERATURE || this.#params.topK === 1;
  }

  #choose(logits: Float32Array, offset: number, length: number, top: Peak): number {
    if (this.#isGreedy) return top.id;
    const { temperature } = this.#params;
    return this.#draw({ logits, offset, length, max: top.max, inverse: 1 / temperature });
  }

  /**
   * Temperature, then min-p, top-k and top-p, then one draw, without sorting the vocabulary: tokens are counted and
   * weighed in bins, only bins on a border are looked into, and only those are sorted.
   */
  #draw(row: Row): number {
    const { topK, topP, minP } = this.#params;
    // The last bin that takes part, and which of its tokens do; null = all of them. The likeliest token weighs 1.
    const end = minP > 0 ? LogitBins.of(-Math.log(minP)) : LogitBins.last;
    const few = topK !== null && topK < row.length ? topK : null;
    bins.take(row, few === null && minP === 0 ? 0 : Math.min(end + 1, LogitBins.near));
    let last = few === null ? end : bins.reach(few, end);
    let border: Weighed[] | null = null;
    bins.weigh(last);
    const { mass, count } = bins;
    if (minP > 0 && last === end) {
      border = bins.members(last).filter((token) => token.weight >= minP);
      mass[last] = weightOf(border);
    }
    if (few !== null) {
      let before = 0;
      for (let bin = 0; bin < last; bin += 1) before += count[bin]!;
      border = (border ?? bins.members(last)).slice(0, few - before);
      mass[last] = weightOf(border);
    }
    let total = 0;
    for (let bin = 0; bin <= last; bin += 1) total += mass[bin]!;
    if (topP < 1) {
      const wanted = topP * total;
      let before = 0;
      let bin = 0;
      for (; bin < last && before + mass[bin]! < wanted; bin += 1) before += mass[bin]!;
      const candidates = bin === last && border !== null ? border : bins.members(bin);
      border = [];
      let within = 0;
      for (const token of candidates) {
        border.push(token);
        within += token.weight;
        if (before + within >= wanted) break;
      }
      last = bin;
      mass[last] = within;
      total = before + within;
    }

    let rest = this.#random() * total;
    let bin = 0;
    for (; bin < last && rest >= mass[bin]!; bin += 1) rest -= mass[bin]!;
    // Rounding may carry the draw past the last token: then it is the last one that has any weight.
    for (; bin > 0 && mass[bin] === 0; bin -= 1) rest = Infinity;
    const tokens = bin === last && border !== null ? border : bins.members(bin);
    for (const token of tokens) {
      rest -= token.weight;
      if (rest < 0) return token.id;
    }
    return tokens.at(-1)!.id;
  }
}

const weightOf = (tokens: readonly Weighed[]): number => tokens.reduce((sum, token) => sum + token.weight, 0);

/** Log-probabilities of the token `id` and of the `count` likeliest, natural logarithm, at temperature 1. */
function scoreAt(params: {
  logits: Float32Array;
  offset: number;
  length: number;
  max: number;
  id: number;
  count: number;
}): { id: number; logprob: number; top: Scored[] } {
  const { logits, offset, length, max, id } = params;
  const normalizer = logSumExp(logits, offset, length, max);
  const score = (token: number): Scored => ({ id: token, logprob: logits[offset + token]! - normalizer });
  return { ...score(id), top: topIds(logits, offset, length, params.count).map(score) };
}

/** Scores a token that was not sampled, as of a prompt. @returns null when a logit is not finite. */
export function scoreToken(params: {
  logits: Float32Array;
  offset: number;
  length: number;
  id: number;
  count: number;
}): { id: number; logprob: number; top: Scored[] } | null {
  const top = peak(params.logits, params.offset, params.length);
  return top === null ? null : scoreAt({ ...params, max: top.max });
}

/**
 * Reproducible uniform numbers: sfc32 (Chris Doty-Humphrey's PractRand), seeded by 32-bit mixing of the whole seed.
 * The same seed gives the same sequence on every machine.
 * @param seed any safe integer.
 * @returns draws in [0, 1) with 53 bits.
 */
export function seededRandom(seed: number): () => number {
  const low = seed | 0;
  const high = Math.floor(seed / 2 ** 32) | 0;
  let a = mix(low ^ 0x9e3779b9);
  let b = mix(high ^ 0x243f6a88);
  let c = mix(a ^ b);
  let counter = 1;
  const next = (): number => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  // The first outputs still show the seed.
  for (let round = 0; round < 12; round += 1) next();
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
}

/** MurmurHash3's finalizer. */
function mix(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}

/** Largest finite float32: what is beyond is held here, so that no setting makes a row infinite or NaN. */
const LIMIT = 3.4028234663852886e38;

/** Shared by all rows, since nothing awaits between its filling and its last use. */
let adjusted = new Float32Array(0);

/**
 * One sequence's logits as its request wants them, in the order of vLLM's sampler: bias, repetition penalty over prompt
 * and answer, frequency and presence penalty over the answer (vllm/v1/sample/sampler.py and apply_penalties, vLLM
 * 0.32.0; OpenAI's formula mu - c * frequency - (c > 0) * presence). Temperature, min-p, top-k and top-p come after.
 */
export class AdjustedLogits {
  readonly #adjustments: LogitAdjustments;
  /** How often each token was generated. */
  readonly #counts = new Map<number, number>();
  /** Tokens of prompt and answer; empty when nothing asks for them. */
  readonly #seen: Set<number>;
  /** Tokens of the answer. */
  #generated = 0;

  /** @param prompt token ids. */
  constructor(adjustments: LogitAdjustments, prompt: readonly number[]) {
    this.#adjustments = adjustments;
    this.#seen = new Set(adjustments.repetition === 1 ? [] : prompt);
  }

  /**
   * @param logits row-major, finite; this sequence's row is `[length]` from `offset`, and is not changed.
   * @returns `[length]` from 0, finite; valid until the next call on any sequence.
   */
  of(logits: Float32Array, offset: number, length: number): Float32Array {
    if (adjusted.length < length) adjusted = new Float32Array(length);
    const row = adjusted;
    row.set(logits.subarray(offset, offset + length));
    const { bias, repetition, frequency, presence, later } = this.#adjustments;
    for (const [id, value] of bias) row[id] = hold(row[id]! + value);
    for (const id of this.#seen) row[id] = hold(row[id]! > 0 ? row[id]! / repetition : row[id]! * repetition);
    if (frequency !== 0 || presence !== 0)
      for (const [id, count] of this.#counts) row[id] = hold(row[id]! - count * frequency - presence);
    if (later !== undefined && this.#generated < later.after) for (const id of later.ids) row[id] = -LIMIT;
    return row;
  }

  /** The answer has one more token. */
  add(id: number): void {
    const { repetition, frequency, presence } = this.#adjustments;
    this.#generated += 1;
    if (frequency !== 0 || presence !== 0) this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
    if (repetition !== 1) this.#seen.add(id);
  }
}

const hold = (value: number): number => Math.min(LIMIT, Math.max(-LIMIT, value));
