/** Numbers from -8 to 8 that follow from a row's tokens and delta alone. */
export function fillWithHash(output: Float32Array, delta: string, tokens: readonly number[]): void {
  let state = fnv(delta, 0x811c9dc5);
  for (const token of tokens) state = Math.imul(state ^ (token + 1), 0x01000193) ^ (state >>> 15);
  for (let at = 0; at < output.length; at += 1) {
    state = Math.imul(state ^ (state >>> 16), 0x45d9f3b) + 0x9e3779b9;
    output[at] = ((state >>> 8) / 2 ** 24) * 16 - 8;
  }
}

/** FNV-1a. */
function fnv(text: string, seed: number): number {
  let hash = seed;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash;
}

export interface FakeRunnerOptions {
  slots?: number;
  /** As many as slots unless given. */
  parking?: number;
  /** Room for every row's whole context unless given. */
  kvTokens?: number;
  chunk?: number;
  /** 1 unless given. */
  parts?: number;
  /** 1,000 unless given. */
  doublingTokens?: number;
  /** None unless given. */
  blocks?: number;
  vocabSize?: number;
  context?: number;
  maxRankSum?: number;
  /** Rank of an adapter; 8 unless given. Its memory is `FAKE_RANK_BYTES` a rank. */
  rank?: (digest: string) => number;
  /** Awaited inside each load and each step: a test may hold it, or throw. */
  duringLoad?: (digest: string) => Promise<void>;
  duringStep?: (step: FakeStep) => Promise<void> | void;
  /** The logit of a token after these ones; a hash of tokens and delta unless given. */
  logit?: (id: number, tokens: readonly number[]) => number;
  /** Rows whose logits come out as NaN. */
  poisoned?: (tokens: readonly number[], delta: string) => boolean;
}

export interface FakeStep {
  readonly kind: 'prefill' | 'decode';
  /** Tokens and delta of each row in the step, as they are after it. */
  readonly rows: readonly { readonly tokens: readonly number[]; readonly delta: string }[];
}
