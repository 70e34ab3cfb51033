import {
  err,
  MAX_CHAIN,
  ok,
  type AdapterManifest,
  type ApiError,
  type ManifestChainEntry,
  type Result,
} from '../../protocol/index.ts';

type Part = Pick<AdapterManifest, 'chain' | 'rank'>;

/** Ranks of a part's members; `rank` of the manifest is that of its last one. */
const ranked = ({ chain, rank }: Part): ManifestChainEntry[] =>
  chain.map((entry, i) => (i === chain.length - 1 && entry.rank === undefined ? { ...entry, rank } : entry));

const refuse = (message: string): Result<never, ApiError> =>
  err({ code: 'invalid_request', message, param: 'adapters' });

/**
 * Adds further adapters to a chain for one request. What an adapter was trained on comes along, once: a member that is
 * there already keeps its scale; others are appended with `scale` times their own.
 * @param main null = the base model.
 * @param maxRankSum what the base takes, or null when it is not known here: the origin checks it again.
 */
export function composeChain(
  main: Part | null,
  parts: readonly { manifest: Part; scale: number }[],
  maxRankSum: number | null,
): Result<ManifestChainEntry[], ApiError> {
  const chain = main === null ? [] : ranked(main);
  const there = new Set(chain.map(({ digest }) => digest));
  for (const { manifest, scale } of parts)
    for (const entry of ranked(manifest)) {
      if (there.has(entry.digest)) continue;
      there.add(entry.digest);
      // + 0: a scale of -0 is 0, also in the chain's id.
      chain.push({ ...entry, scale: entry.scale * scale + 0 });
    }
  if (chain.length > MAX_CHAIN)
    return refuse(
      `The model and 'adapters' make a chain of ${chain.length} adapters, parents included; at most ${MAX_CHAIN} are allowed. Name fewer of them.`,
    );
  const rankSum = chain.reduce((sum, { rank }) => sum + (rank ?? 0), 0);
  if (maxRankSum !== null && rankSum > maxRankSum)
    return refuse(
      `The ranks of the model and 'adapters' add up to ${rankSum}; this base serves at most ${maxRankSum}. Name fewer or thinner ones.`,
    );
  return ok(chain);
}
