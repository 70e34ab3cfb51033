/** How far apart two answers are: the distributions of their tokens, and their words. */

export interface TokenScores {
  /** Identifies the token in comparisons. */
  readonly token: string;
  /** The likeliest alternatives, with their log-probabilities. */
  readonly top: readonly { readonly token: string; readonly logprob: number }[];
}

interface Divergence {
  /** Mean over the tokens, nats. */
  readonly nats: number;
  /** Positions that were compared. */
  readonly tokens: number;
  /** Tokens that both reported, on average per position. */
  readonly shared: number;
}

/** Probabilities of this size are rounding: logprobs come as float32. */
const LEAST = 1e-7;

/**
 * Kullback-Leibler divergence KL(p ‖ q), over positions with the same preceding text: the common prefix, and
 * the first different token. Tokens reported by only one side share one bucket with all unreported ones, which
 * never makes it larger (the log sum inequality), so it is a lower bound.
 * @returns null where there is nothing to compare.
 */
export function divergence(p: readonly TokenScores[], q: readonly TokenScores[]): Divergence | null {
  const places = samePlaces(p, q);
  const each = p.slice(0, places).map(({ top }, i) => atOne(top, q[i]!.top));
  if (each.length === 0) return null;
  const mean = (of: (one: { nats: number; shared: number }) => number): number =>
    each.reduce((sum, one) => sum + of(one), 0) / each.length;
  return { nats: mean(({ nats }) => nats), tokens: each.length, shared: mean(({ shared }) => shared) };
}

function samePlaces(p: readonly TokenScores[], q: readonly TokenScores[]): number {
  const both = Math.min(p.length, q.length);
  for (let at = 0; at < both; at++) if (p[at]!.token !== q[at]!.token) return at + 1;
  return both;
}

function atOne(p: TokenScores['top'], q: TokenScores['top']): { nats: number; shared: number } {
  const other = probabilities(q);
  let [nats, restP, restQ, shared] = [0, 1, 1, 0];
  for (const [token, one] of probabilities(p)) {
    const two = other.get(token);
    if (two === undefined || one <= 0 || two <= 0) continue;
    nats += one * Math.log(one / two);
    restP -= one;
    restQ -= two;
    shared += 1;
  }
  [restP, restQ] = [Math.max(restP, LEAST), Math.max(restQ, LEAST)];
  nats += restP * Math.log(restP / restQ);
  return { nats: Math.max(0, nats), shared };
}

function probabilities(top: TokenScores['top']): Map<string, number> {
  const all = new Map<string, number>();
  // Two tokens may have the same bytes.
  for (const { token, logprob } of top) all.set(token, (all.get(token) ?? 0) + Math.exp(logprob));
  return all;
}

export interface Piece {
  readonly text: string;
  /** It occurs in the other text too, in the same order; white space is ignored. */
  readonly same: boolean;
}

/** Product of both word counts: the table has as many cells, and 4 million take about 30 ms. */
const MAX_CELLS = 4_000_000;

/**
 * By a longest common subsequence of words.
 * @returns the pieces of each; null when they are too long to compare.
 */
export function differences(a: string, b: string): { a: Piece[]; b: Piece[] } | null {
  const [left, right] = [words(a), words(b)];
  if (left.length * right.length > MAX_CELLS) return null;
  const [keysOfLeft, keysOfRight] = [left.map(trimmed), right.map(trimmed)];
  const width = right.length + 1;
  /** Longest common subsequence of both suffixes from (i, j) on. */
  const longest = new Uint16Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i -= 1)
    for (let j = right.length - 1; j >= 0; j -= 1)
      longest[i * width + j] =
        keysOfLeft[i] === keysOfRight[j]
          ? longest[(i + 1) * width + j + 1]! + 1
          : Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!);
  const pieces: { a: Piece[]; b: Piece[] } = { a: [], b: [] };
  for (let i = 0, j = 0; i < left.length || j < right.length;) {
    const isSame = i < left.length && j < right.length && keysOfLeft[i] === keysOfRight[j];
    const fromLeft =
      j >= right.length || (i < left.length && longest[(i + 1) * width + j]! >= longest[i * width + j + 1]!);
    if (isSame || fromLeft) add(pieces.a, left[i++]!, isSame);
    if (isSame || !fromLeft) add(pieces.b, right[j++]!, isSame);
  }
  return pieces;
}

/** Words with the white space after them; the first one also with that before it. */
const words = (text: string): string[] => text.match(/(?:^\s+)?\S+\s*|^\s+$/g) ?? [];

/** White space is ignored: the same words in another layout are equal. */
const trimmed = (word: string): string => word.trim();

function add(pieces: Piece[], text: string, isSame: boolean): void {
  // White space alone is never marked.
  const same = isSame || trimmed(text) === '';
  const last = pieces.at(-1);
  if (last?.same === same) pieces[pieces.length - 1] = { text: last.text + text, same };
  else pieces.push({ text, same });
}
