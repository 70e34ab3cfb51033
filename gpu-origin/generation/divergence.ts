import type { Scored } from './sampler.ts';

/** Where one side gives a bucket no probability at all. */
const LEAST_PROBABILITY = 1e-12;

/**
 * KL(expected || now) = sum p ln(p/q), nats, over the tokens of `expected` and one bucket for all others. p and q of
 * the bucket are what is left of 1; both sides are then divided by their sums, because rounded or forged numbers need
 * not add up. Kullback and Leibler 1951; merging the rest into one bucket only makes it smaller (data processing).
 * @param now likeliest first and longer than `expected`. A token that is not in it is at most as likely as its last.
 */
export function topDivergence(expected: readonly Scored[], now: readonly Scored[]): number {
  const known = new Map(now.map(({ id, logprob }) => [id, logprob]));
  const least = now.at(-1)?.logprob ?? -Infinity;
  const p = withRest(expected.map(({ logprob }) => Math.exp(logprob)));
  const q = withRest(expected.map(({ id }) => Math.exp(known.get(id) ?? least)));
  const divergence = p.reduce(
    (sum, share, i) => (share > 0 ? sum + share * Math.log(share / Math.max(q[i]!, LEAST_PROBABILITY)) : sum),
    0,
  );
  return Math.max(0, divergence);
}

function withRest(shares: readonly number[]): number[] {
  const sum = shares.reduce((total, share) => total + share, 0);
  const all = [...shares, Math.max(0, 1 - sum)];
  const total = Math.max(sum, 1);
  return all.map((share) => share / total);
}
