/**
 * Which adapters of a chain act on which tokens of a prompt. An activated one (aLoRA, arXiv:2504.12397) acts from the
 * last occurrence of its invocation tokens on, the first of them included, as in PEFT (`tuners/lora/variants.py`).
 */
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { ResidentAdapter } from '../ports.ts';

type Acting = Pick<ResidentAdapter, 'invocation' | 'stacked'>;

/** A part of a prompt, up to the next one. */
interface Stage {
  /** Its first token. */
  readonly from: number;
  /** What acts there, root first; empty = the base alone. */
  readonly chain: readonly ChainEntry[];
}

/** Equal for equal deltas: a chain's lines, of which `chainId` is the hash. '' = the base. */
export const chainKey = (chain: readonly ChainEntry[]): string =>
  chain.map(({ digest, scale }) => `${digest} ${scale}\n`).join('');

/**
 * @param prompt tokens in which invocations are looked for; those of an answer do not count.
 * @param adapters of the chain, by digest.
 * @returns at least one stage, the first from token 0 on.
 */
export function stagesOf(
  chain: readonly ChainEntry[],
  adapters: ReadonlyMap<string, Acting>,
  prompt: readonly number[],
): Stage[] {
  let latest = 0;
  const begins = chain.map(({ digest }) => {
    const { invocation, stacked } = adapters.get(digest)!;
    const own = invocation === null ? 0 : lastOccurrence(prompt, invocation);
    // An adapter knows its parents' effect only: it does not act before they do.
    latest = stacked ? Math.max(latest, own) : own;
    return latest;
  });
  const borders = [...new Set([0, ...begins])].filter((at) => at === 0 || at < prompt.length);
  return borders
    .sort((a, b) => a - b)
    .map((from) => ({ from, chain: chain.filter((_, at) => begins[at]! <= from) }));
}

/** @returns the digest of an adapter that would act before its parents; null = all are in order. */
export function actsTooEarly(
  chain: readonly ChainEntry[],
  adapters: ReadonlyMap<string, Acting>,
): string | null {
  let waits = false;
  for (const { digest } of chain) {
    const { invocation, stacked } = adapters.get(digest)!;
    if (stacked && waits && invocation === null) return digest;
    waits = (stacked && waits) || invocation !== null;
  }
  return null;
}

/** Knuth, Morris and Pratt's search, so that no prompt takes longer than its length. @returns Infinity if there is none. */
export function lastOccurrence(tokens: readonly number[], wanted: readonly number[]): number {
  /** By matched tokens: how many of the first ones are also the last of these. */
  const overlaps = [0, 0];
  for (let at = 1, matched = 0; at < wanted.length; at += 1) {
    while (matched > 0 && wanted[at] !== wanted[matched]) matched = overlaps[matched]!;
    if (wanted[at] === wanted[matched]) matched += 1;
    overlaps.push(matched);
  }
  let last = Infinity;
  for (let at = 0, matched = 0; at < tokens.length; at += 1) {
    while (matched > 0 && (matched === wanted.length || tokens[at] !== wanted[matched]))
      matched = overlaps[matched]!;
    if (tokens[at] === wanted[matched]) matched += 1;
    if (matched === wanted.length) last = at + 1 - wanted.length;
  }
  return last;
}
