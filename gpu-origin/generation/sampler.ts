/**
 * From a row of logits to a token. A row is `[vocab]` inside a larger buffer, from `offset`. Everything that needs exp()
 * of a whole row is in this module: V8 folds constants and inlines within a module, but not across an import (measured:
 * thirteen times slower).
 */
import type { ChatCompletionRequest, TextCompletionRequest } from '../../protocol/completion.ts';
import type { SamplingFields } from '../../protocol/request-fields.ts';
import { wantsLogprobs, type ResponseRequest } from '../../protocol/responses.ts';
import { maxTokensOf } from '../../protocol/request-fields.ts';

export type GenerationRequest = ChatCompletionRequest | TextCompletionRequest | ResponseRequest;

/** What a request wants done to the logits before a token is chosen. */
export interface LogitAdjustments {
  /** Added to the logits of these tokens. */
  readonly bias: readonly (readonly [id: number, bias: number])[];
  /** Divides positive and multiplies negative logits of every token of prompt and answer; 1 = off. */
  readonly repetition: number;
  /** Subtracted for each time that a token was generated; 0 = off. */
  readonly frequency: number;
  /** Subtracted from every token that was generated at all; 0 = off. */
  readonly presence: number;
  /** Tokens that are not chosen before there are so many; absent = none. */
  readonly later?: { readonly ids: readonly number[]; readonly after: number };
}

/** How the tokens of one answer are chosen and when it ends. Checked and defaulted; no field is optional. */
export interface SamplingParams {
  /** 0 = greedy. */
  readonly temperature: number;
  /** Only the k likeliest tokens; null = all of them. */
  readonly topK: number | null;
  /** Only the smallest set of tokens whose probability reaches this; 1 = all of them. */
  readonly topP: number;
  /** Only tokens that are at least so likely as this times the likeliest; 0 = all of them. */
  readonly minP: number;
  /** What is done to the logits first; null = nothing. */
  readonly adjustments: LogitAdjustments | null;
  /** Makes the draws reproducible; null = draws from the engine's random source. */
  readonly seed: number | null;
  /** Texts that end the answer; they are not part of it unless `includeStop` says so. */
  readonly stop: readonly string[];
  /** Tokens to generate at most; null = as many as fit the context. 0 only scores the prompt. */
  readonly maxTokens: number | null;
  /** Go on after an end-of-sequence token. */
  readonly ignoreEos: boolean;
  /** Tokens that end the answer too; they are no part of its text. */
  readonly stopTokens: readonly number[];
  /** Tokens before which nothing ends the answer. */
  readonly minTokens: number;
  /** Control tokens are part of the text. */
  readonly showSpecial: boolean;
  /** What ends the answer, a text or a token of `stopTokens`, is part of it. */
  readonly includeStop: boolean;
  /** Log-probability of each token, and of so many alternatives; null = none at all. */
  readonly logprobs: number | null;
}

export const GREEDY: SamplingParams = {
  temperature: 0,
  topK: null,
  topP: 1,
  minP: 0,
  adjustments: null,
  seed: null,
  stop: [],
  maxTokens: null,
  ignoreEos: false,
  stopTokens: [],
  minTokens: 0,
  showSpecial: false,
  includeStop: false,
  logprobs: null,
};

/** OpenAI's defaults: temperature 1 and no truncation. */
export function samplingParamsOf(request: GenerationRequest): SamplingParams {
  const { stop, top_k: topK } = request;
  return {
    temperature: request.temperature ?? 1,
    topK: topK === null || topK === undefined || topK < 1 ? null : topK,
    topP: request.top_p ?? 1,
    minP: request.min_p ?? 0,
    adjustments: adjustmentsOf(request),
    seed: request.seed ?? null,
    stop: typeof stop === 'string' ? [stop] : (stop ?? []),
    maxTokens: maxTokensOf(request),
    ignoreEos: request.ignore_eos ?? false,
    stopTokens: request.stop_token_ids ?? [],
    minTokens: request.min_tokens ?? 0,
    showSpecial: request.skip_special_tokens === false,
    includeStop: request.include_stop_str_in_output ?? false,
    logprobs: logprobsOf(request),
  };
}

/**
 * Seeds of a request's answers: they count up from the request's own, and past the largest safe integer from 0, so that
 * no two are equal.
 */
export function choiceSeeds(seed: number | null, choices: number): (number | null)[] {
  return Array.from({ length: choices }, (_, choice) => {
    if (seed === null) return null;
    const room = Number.MAX_SAFE_INTEGER - seed;
    return choice <= room ? seed + choice : choice - room - 1;
  });
}

function adjustmentsOf(request: SamplingFields): LogitAdjustments | null {
  const adjustments: LogitAdjustments = {
    bias: Object.entries(request.logit_bias ?? {}).map(([id, bias]) => [Number(id), bias] as const),
    repetition: request.repetition_penalty ?? 1,
    frequency: request.frequency_penalty ?? 0,
    presence: request.presence_penalty ?? 0,
  };
  const { bias, repetition, frequency, presence } = adjustments;
  return bias.length === 0 && repetition === 1 && frequency === 0 && presence === 0 ? null : adjustments;
}

function logprobsOf(request: GenerationRequest): number | null {
  if ('input' in request) return wantsLogprobs(request) ? (request.top_logprobs ?? 0) : null;
  if ('messages' in request) return request.logprobs === true ? (request.top_logprobs ?? 0) : null;
  return request.logprobs ?? null;
}

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

interface Peak {
  /** Index of the largest logit; the smallest index among equals. */
  readonly id: number;
  readonly max: number;
}

/**
 * Largest logit and whether every logit is finite, in one pass: a sum of float32 values in float64 cannot overflow,
 * so it is finite exactly when all of them are. Four chains, because one would wait for each addition.
 * @returns null when a logit is NaN or infinite.
 */
export function peak(logits: Float32Array, offset: number, length: number): Peak | null {
  let max = -Infinity;
  let id = 0;
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  const end = offset + length;
  let i = offset;
  for (; i + 3 < end; i += 4) {
    const a = logits[i]!;
    const b = logits[i + 1]!;
    const c = logits[i + 2]!;
    const d = logits[i + 3]!;
    s0 += a;
    s1 += b;
    s2 += c;
    s3 += d;
    if (a > max) {
      max = a;
      id = i;
    }
    if (b > max) {
      max = b;
      id = i + 1;
    }
    if (c > max) {
      max = c;
      id = i + 2;
    }
    if (d > max) {
      max = d;
      id = i + 3;
    }
  }
  for (; i < end; i += 1) {
    const a = logits[i]!;
    s0 += a;
    if (a > max) {
      max = a;
      id = i;
    }
  }
  return Number.isFinite(s0 + s1 + s2 + s3) ? { id: id - offset, max } : null;
}

/** @returns ids of the `count` largest logits, largest first, smaller id first among equals. */
export function topIds(logits: Float32Array, offset: number, length: number, count: number): number[] {
  const ids: number[] = [];
  const kept = Math.min(count, length);
  if (kept === 0) return ids;
  let smallest = -Infinity;
  for (let id = 0; id < length; id += 1) {
    const value = logits[offset + id]!;
    if (ids.length === kept && value <= smallest) continue;
    if (ids.length === kept) ids.pop();
    let place = ids.length;
    while (place > 0 && logits[offset + ids[place - 1]!]! < value) place -= 1;
    ids.splice(place, 0, id);
    smallest = logits[offset + ids[ids.length - 1]!]!;
  }
  return ids;
}

/** Place of the token `id` among all, from 1; equals share the best. */
export function rankOf(logits: Float32Array, offset: number, length: number, id: number): number {
  const own = logits[offset + id]!;
  let rank = 1;
  for (let at = offset; at < offset + length; at += 1) if (logits[at]! > own) rank += 1;
  return rank;
}

/** One row, `[length]` from `offset`. */
type Logits = Pick<Row, 'logits' | 'offset' | 'length'>;

/** Shared by all rows, since nothing awaits between its filling and its last use. */
let masked = new Float32Array(0);

/**
 * The largest logit of the tokens that a grammar lets through, the smallest id among equals; words without a bit are
 * passed over.
 * @param from finite. @param mask bit `id % 32` of word `id >> 5` is set for each of them.
 * @throws RangeError when none is let through: a bug of whoever made the mask.
 */
function maskedPeak({ logits, offset, length }: Logits, mask: Int32Array): Peak {
  let max = -Infinity;
  let best = -1;
  for (let at = 0; at < mask.length; at += 1) {
    let word = mask[at]!;
    while (word !== 0) {
      const id = (at << 5) + 31 - Math.clz32(word & -word);
      word &= word - 1;
      if (id >= length) break;
      const value = logits[offset + id]!;
      if (value > max || best === -1) {
        max = value;
        best = id;
      }
    }
  }
  if (best === -1) throw new RangeError('a mask that lets nothing through');
  return { id: best, max };
}

/**
 * A copy in which what is not let through is -Infinity, which no draw takes.
 * @returns `[length]` from 0, valid until the next call; `top` of what is let through.
 */
function maskedRow(from: Logits, mask: Int32Array): { row: Float32Array; top: Peak } {
  const { logits, offset, length } = from;
  const top = maskedPeak(from, mask);
  if (masked.length < length) masked = new Float32Array(length);
  for (let id = 0; id < length; id += 1)
    masked[id] = (mask[id >> 5]! >>> (id & 31)) & 1 ? logits[offset + id]! : -Infinity;
  return { row: masked, top };
}

/** Steps per unit of the table below. */
const EXP_STEPS = 64;
/** e^-40 = 4e-18: a whole vocabulary of such tokens is lost in the rounding of a float64 sum. */
const EXP_RANGE = 40;
const EXP_BINS = EXP_STEPS * EXP_RANGE;
const TABLE = Float64Array.from({ length: EXP_BINS }, (_, bin) => Math.exp(-bin / EXP_STEPS));

/**
 * e^-x for a x of `bin` <= 64 x < bin + 1: table times Taylor to the third order, relative error below 3e-9.
 * About four times as fast as Math.exp, and the same bits on every machine.
 */
function expInBin(x: number, bin: number): number {
  const r = x - bin / EXP_STEPS;
  return TABLE[bin]! * (1 - r * (1 - r * (0.5 - r * 0.16666666666666666)));
}

/** log(sum(exp(logits))) given their maximum. Natural logarithm. */
function logSumExp(logits: Float32Array, offset: number, length: number, max: number): number {
  let sum = 0;
  for (let i = offset, end = offset + length; i < end; i += 1) {
    const x = max - logits[i]!;
    if (x >= EXP_RANGE) continue;
    sum += expInBin(x, (x * EXP_STEPS) | 0);
  }
  return max + Math.log(sum);
}

/** A token that may be drawn, with its probability times a constant. */
interface Weighed {
  readonly id: number;
  readonly weight: number;
}

/** A row of logits under a temperature. */
interface Row {
  readonly logits: Float32Array;
  readonly offset: number;
  readonly length: number;
  /** Largest logit of the row. */
  readonly max: number;
  /** 1 / temperature. */
  readonly inverse: number;
}

/** Tokens counted and weighed by how far they lie below the largest logit, in bins of 1/64. */
class LogitBins {
  static readonly last = EXP_BINS - 1;
  /** The likeliest hundred tokens mostly lie in the bins before this one. */
  static readonly near = 16 * EXP_STEPS;

  /** The bin of tokens that lie `x` >= 0 below the likeliest; the last one for all that lie too far. */
  static of(x: number): number {
    return Math.min(LogitBins.last, Math.floor(x * EXP_STEPS));
  }

  readonly mass = new Float64Array(EXP_BINS);
  readonly count = new Int32Array(EXP_BINS);
  #row: Row = { logits: new Float32Array(0), offset: 0, length: 0, max: 0, inverse: 1 };
  /** Tokens in the bins before `#nearBins`, in order. */
  #near = new Int32Array(0);
  #nearCount = 0;
  #nearBins = 0;

  /**
   * The row that all else is about.
   * @param near bins whose tokens are found once, where a draw asks for no others mostly; 0 = none.
   */
  take(row: Row, near: number): void {
    this.#row = row;
    this.#nearBins = near;
    this.#nearCount = near === 0 ? 0 : this.#find(row, near / EXP_STEPS);
  }

  #find({ logits, offset, length, max, inverse }: Row, limit: number): number {
    if (this.#near.length <= length) this.#near = new Int32Array(length + 1);
    const near = this.#near;
    let found = 0;
    for (let id = 0; id < length; id += 1) {
      // Without a branch, which is mostly guessed wrong.
      near[found] = id;
      found += (max - logits[offset + id]!) * inverse < limit ? 1 : 0;
    }
    return found;
  }

  /**
   * Counts tokens, without what they weigh.
   * @returns the bin that the likeliest `tokens` end in; `last` where there are fewer up to it.
   */
  reach(tokens: number, last: number): number {
    const { logits, offset, length, max, inverse } = this.#row;
    const { count } = this;
    const near = this.#nearCount >= tokens || last < this.#nearBins;
    count.fill(0);
    for (let i = 0, end = near ? this.#nearCount : length; i < end; i += 1) {
      const x = (max - logits[offset + (near ? this.#near[i]! : i)]!) * inverse;
      if (x >= EXP_RANGE) continue;
      const bin = (x * EXP_STEPS) | 0;
      count[bin] = count[bin]! + 1;
    }
    for (let bin = 0, before = 0; bin < last; bin += 1) {
      before += count[bin]!;
      if (before >= tokens) return bin;
    }
    return last;
  }

  /**
   * Replaces what was weighed before. Tokens below e^-40 of the likeliest are left out.
   * @param last bin that is wanted.
   */
  weigh(last: number): void {
    const { logits, offset, length, max, inverse } = this.#row;
    const { mass } = this;
    mass.fill(0);
    if (last < this.#nearBins) {
      for (let i = 0; i < this.#nearCount; i += 1) {
        const x = (max - logits[offset + this.#near[i]!]!) * inverse;
        const bin = (x * EXP_STEPS) | 0;
        if (bin <= last) mass[bin] = mass[bin]! + expInBin(x, bin);
      }
      return;
    }
    for (let i = offset, end = offset + length; i < end; i += 1) {
      const x = (max - logits[i]!) * inverse;
      if (x >= EXP_RANGE) continue;
      const bin = (x * EXP_STEPS) | 0;
      mass[bin] = mass[bin]! + expInBin(x, bin);
    }
  }

  /** The tokens of one bin, heaviest first, smaller id first among equals. */
  members(bin: number): Weighed[] {
    const { logits, offset, length, max, inverse } = this.#row;
    const near = bin < this.#nearBins;
    const members: Weighed[] = [];
    for (let i = 0, end = near ? this.#nearCount : length; i < end; i += 1) {
      const id = near ? this.#near[i]! : i;
      const x = (max - logits[offset + id]!) * inverse;
      if (x >= EXP_RANGE || ((x * EXP_STEPS) | 0) !== bin) continue;
      members.push({ id, weight: expInBin(x, bin) });
    }
    return members.sort((a, b) => b.weight - a.weight || a.id - b.id);
  }
}

/** Shared by all samplers, since nothing awaits between its filling and its last use. */
const bins = new LogitBins();
