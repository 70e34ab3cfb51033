import { parseCanonical } from './format/canonical.ts';
import { inFeatures, outFeatures } from './format/lora-module.ts';

/** Modules of one kind, such as `self_attn.q_proj`, over all layers. */
export interface AdapterTarget {
  readonly target: string;
  readonly modules: number;
  readonly minRank: number;
  readonly maxRank: number;
}

export interface AdapterSummary {
  readonly base: string;
  readonly parent: string | null;
  /** Size of the file, bytes. */
  readonly bytes: number;
  /** Largest rank. */
  readonly rank: number;
  readonly modules: number;
  /** Numbers in all A and B. */
  readonly parameters: number;
  readonly dtypes: readonly string[];
  /** Sorted by name. */
  readonly targets: readonly AdapterTarget[];
}

/** @param bytes a canonical file. @throws AdapterFormatError */
export function inspectAdapter(bytes: Uint8Array): AdapterSummary {
  const { config, modules } = parseCanonical(bytes);
  const targets = new Map<string, AdapterTarget>();
  let parameters = 0;
  for (const module of modules) {
    parameters += module.rank * (inFeatures(module) + outFeatures(module));
    const target = module.name.replace(/^.*\.layers\.\d+\./, '');
    const seen = targets.get(target);
    targets.set(target, {
      target,
      modules: (seen?.modules ?? 0) + 1,
      minRank: Math.min(seen?.minRank ?? Infinity, module.rank),
      maxRank: Math.max(seen?.maxRank ?? 0, module.rank),
    });
  }
  return {
    base: config.base,
    parent: config.parent,
    bytes: bytes.byteLength,
    rank: modules.reduce((rank, module) => Math.max(rank, module.rank), 0),
    modules: modules.length,
    parameters,
    dtypes: [...new Set(modules.flatMap(({ a, b }) => [a.dtype, b.dtype]))].sort(),
    targets: [...targets.values()].sort((a, b) => (a.target < b.target ? -1 : 1)),
  };
}
