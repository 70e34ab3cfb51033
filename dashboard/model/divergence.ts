/** How far apart two distributions over the next token are, of which both tell the likeliest tokens alone. */

export interface TokenScores {
  /** Which token it is, for comparing. */
  readonly token: string;
  /** The likeliest in its place, and the logarithms of their probabilities. */
  readonly top: readonly { readonly token: string; readonly logprob: number }[];
}

export interface Divergence {
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
