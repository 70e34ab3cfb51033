/** How far two answers are apart: the distributions that their tokens were drawn from, and their words. */

export interface TokenScores {
  /** Which token it is, for comparing. */
  readonly token: string;
  /** The likeliest in its place, and the logarithms of their probabilities. */
  readonly top: readonly { readonly token: string; readonly logprob: number }[];
}

interface Divergence {
  /** Mean over the tokens, nats. */
  readonly nats: number;
  /** Places that were compared. */
  readonly tokens: number;
  /** Tokens that both named, on average of a place. */
  readonly shared: number;
}

/** Probabilities of this size are rounding: logprobs come as float32. */
const LEAST = 1e-7;

/**
 * Kullback-Leibler divergence KL(p ‖ q), where both have read the same: at all tokens that both have in common from the
 * beginning, and at the first that differs. Tokens that only one of them names are one bucket with all that neither
 * names, which never makes it larger (the log sum inequality): it is a lower bound.
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
  /** It is in the other text, too, in the same order; blanks are not compared. */
  readonly same: boolean;
}

/** Words of both, multiplied: the table has as many cells, and 4 million take some 30 ms. */
const MAX_CELLS = 4_000_000;

/**
 * By a longest common subsequence of words.
 * @returns the pieces of each; null when they are too long to be compared.
 */
export function differences(a: string, b: string): { a: Piece[]; b: Piece[] } | null {
  const [left, right] = [words(a), words(b)];
  if (left.length * right.length > MAX_CELLS) return null;
  const [keysOfLeft, keysOfRight] = [left.map(trimmed), right.map(trimmed)];
  const width = right.length + 1;
  /** Longest common subsequence of what is left of both from (i, j) on. */
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

/** With the blanks behind them, and the first one with those before it. */
const words = (text: string): string[] => text.match(/(?:^\s+)?\S+\s*|^\s+$/g) ?? [];

/** Blanks are not compared: the same words laid out otherwise are the same. */
const trimmed = (word: string): string => word.trim();

function add(pieces: Piece[], text: string, isSame: boolean): void {
  // Of a text of blanks alone nothing is marked.
  const same = isSame || trimmed(text) === '';
  const last = pieces.at(-1);
  if (last?.same === same) pieces[pieces.length - 1] = { text: last.text + text, same };
  else pieces.push({ text, same });
}
