/** Which adapters of a chain act on which tokens of a prompt. */
import { actsFrom, type Acting } from '../../../protocol/activation.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';

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
 * @param prompt tokens that may activate adapters. @param adapters of the chain, by digest.
 * @returns at least one stage, the first from token 0 on.
 */
export function stagesOf(
  chain: readonly ChainEntry[],
  adapters: ReadonlyMap<string, Acting>,
  prompt: readonly number[],
): Stage[] {
  const begins = actsFrom(
    chain.map(({ digest }) => adapters.get(digest)!),
    prompt,
  );
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
