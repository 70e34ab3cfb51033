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

/** Largest finite float32: what is beyond is held here, so that no setting makes a row infinite or NaN. */
const LIMIT = 3.4028234663852886e38;

/** Shared by all rows, since nothing awaits between its filling and its last use. */
let scratch = new Float32Array(0);

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
    if (scratch.length < length) scratch = new Float32Array(length);
    const row = scratch;
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
