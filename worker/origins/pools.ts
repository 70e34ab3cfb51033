import type { Origin } from './choose-origin.ts';

/** The origins by the base that they serve; those of one base are a pool. */
export interface Pools {
  readonly all: readonly Origin[];
  /** Ids of the bases, the default one first; null = the origins do not name their base, and are all of one. */
  readonly declared: readonly string[] | null;
  /**
   * @param base its id; null = the default one.
   * @returns empty where no origin serves it. Of origins that do not name their base: all, whatever is asked for.
   */
  of(base: string | null): readonly Origin[];
}

/**
 * @param origins as the configuration has them: all name their base, or none does.
 * @param defaultBase one of theirs; that of the first origin unless given.
 */
export function createPools(origins: readonly Origin[], defaultBase: string | null = null): Pools {
  const ids = [...new Set(origins.flatMap(({ base }) => base ?? []))];
  if (ids.length === 0) return { all: origins, declared: null, of: () => origins };
  const first = defaultBase ?? ids[0];
  const declared = ids.sort((a, b) => Number(b === first) - Number(a === first));
  const pools = new Map(declared.map((id) => [id, origins.filter(({ base }) => base === id)]));
  return { all: origins, declared, of: (base) => pools.get(base ?? declared[0] ?? '') ?? [] };
}
