import type { Pooling } from './engine-types.ts';

/** A prompt's hidden states as one vector, taken in chunk by chunk. */
export class PooledStates {
  readonly #pooling: Pooling;
  #sum: Float64Array | null = null;
  #count = 0;

  constructor(pooling: Pooling) {
    this.#pooling = pooling;
  }

  /** @param states `[tokens, size]` of the prompt's next tokens. @returns false when one is not finite. */
  add(states: Float32Array, size: number): boolean {
    if (!states.every(Number.isFinite)) return false;
    if (this.#pooling === 'last') {
      this.#sum = Float64Array.from(states.subarray(states.length - size));
      this.#count = 1;
      return true;
    }
    const sum = (this.#sum ??= new Float64Array(size));
    for (let at = 0; at < states.length; at += 1) sum[at % size]! += states[at]!;
    this.#count += states.length / size;
    return true;
  }

  /** `[size]` */
  value(): Float64Array {
    return Float64Array.from(this.#sum ?? [], (value) => value / this.#count);
  }
}
