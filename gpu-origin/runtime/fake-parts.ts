/**
 * What the fake runner is made of: adapters and chains of them, which have no numbers, but memory that is counted as the
 * real runner's is; what is kept of rows; what comes out.
 */
import type { ChunkParts, ResidentAdapter, RowDelta } from '../engine/ports.ts';
import { noRanks, rankBucket, type RankByKind } from './row-delta.ts';

/** Memory of one rank of the only linear that the fake model has, a q, bytes. */
export const FAKE_RANK_BYTES = 125;
/** … and of a rank of every linear. */
export const FAKE_RANKS: RankByKind = { ...noRanks(), q: FAKE_RANK_BYTES };

export class FakeAdapter implements ResidentAdapter {
  unloaded = false;
  readonly bytes: number;
  constructor(
    readonly digest: string,
    readonly rank: number,
  ) {
    // As the real one's, with zeros up to the bucket.
    this.bytes = rankBucket(rank) * FAKE_RANK_BYTES;
  }
}

export class FakeDelta implements RowDelta {
  readonly rank: number;
  readonly bytes: number;
  readonly key: string;
  readonly ranks: RankByKind;
  constructor(readonly members: readonly { adapter: FakeAdapter; scale: number }[]) {
    const sum = members.reduce((total, { adapter }) => total + adapter.rank, 0);
    this.rank = rankBucket(sum);
    this.ranks = { ...noRanks(), q: this.rank };
    // As the real one: a lone member at scale 1 is not copied.
    const shared = members.length === 1 && members[0]?.scale === 1;
    this.bytes = shared ? 0 : this.rank * FAKE_RANK_BYTES;
    // A member at scale 0 adds nothing.
    const heard = members.filter(({ scale }) => scale !== 0);
    this.key = heard.map(({ adapter, scale }) => `${adapter.digest}*${scale}`).join('+');
  }
}

export interface FakeRow {
  tokens: number[];
  delta: FakeDelta | null;
}

export const keyOf = (row: FakeRow): string => row.delta?.key ?? '';

/** What a fake runner keeps of its rows: chunks of tokens, with what came before them and by which delta. */
export class FakeBlocks {
  readonly #kept = new Map<number, { before: string; tokens: readonly number[] }>();
  readonly #chunk: number;
  readonly #misuse: (what: string) => never;

  constructor(chunk: number, misuse: (what: string) => never) {
    this.#chunk = chunk;
    this.#misuse = misuse;
  }

  keep(row: FakeRow, at: number, block: number): void {
    if (at % this.#chunk !== 0 || at + this.#chunk > row.tokens.length)
      this.#misuse(`keep: no whole chunk at ${at} of ${row.tokens.length} tokens`);
    const tokens = row.tokens.slice(at, at + this.#chunk);
    this.#kept.set(block, { before: this.#before(row, at), tokens });
  }

  reuse(row: FakeRow, at: number, block: number): void {
    const kept = this.#kept.get(block);
    if (kept === undefined || at !== row.tokens.length || kept.before !== this.#before(row, at))
      return this.#misuse(`reuse: block ${block} is not what comes after ${row.tokens.length} tokens`);
    row.tokens.push(...kept.tokens);
  }

  #before(row: FakeRow, at: number): string {
    return `${keyOf(row)} ${row.tokens.slice(0, at).join(' ')}`;
  }
}

/** The chunk of which some parts were read. */
export class FakeParts {
  #begun: { chunk: string; parts: number } | null = null;

  readonly #parts: number;

  constructor(parts: number) {
    this.#parts = parts;
  }

  /** @param chunk begins with its slot. @returns whether these parts are next. */
  go(chunk: string, { from, to }: ChunkParts): boolean {
    const next = from === 0 || (this.#begun?.chunk === chunk && this.#begun.parts === from);
    this.#begun = to < this.#parts ? { chunk, parts: to } : null;
    return next && to > from && to <= this.#parts;
  }

  /** @returns whether it was this slot's. */
  leave(slot: number): boolean {
    const its = this.#begun?.chunk.startsWith(`${slot} `) === true;
    if (its) this.#begun = null;
    return its;
  }
}

/** What comes out for a row. */
export function fillOutput(
  output: Float32Array,
  row: FakeRow,
  { logit, poisoned }: Pick<FakeRunnerOptions, 'logit' | 'poisoned'>,
): void {
  if (logit !== undefined) for (let id = 0; id < output.length; id += 1) output[id] = logit(id, row.tokens);
  else if (poisoned?.(row.tokens, keyOf(row)) === true) output.fill(NaN);
  else fillWithHash(output, keyOf(row), row.tokens);
}

/** Numbers from -8 to 8 that follow from a row's tokens and delta alone. */
function fillWithHash(output: Float32Array, delta: string, tokens: readonly number[]): void {
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
