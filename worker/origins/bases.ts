import { BaseInfo, err, ok, type ApiError, type Result } from '../../protocol/index.ts';
import { baseUnserved, originUnavailable } from '../errors.ts';
import { logLine } from '../log.ts';
import type { Origin } from './choose-origin.ts';
import { BASE_INFO_TTL_MS, ORIGIN_QUESTION_MS } from './limits.ts';
import type { Pools } from './pools.ts';
import type { Bases } from './ports.ts';

export const readBase = (text: string): BaseInfo => BaseInfo.parse(JSON.parse(text));

/** What the origins of each pool say of their base, remembered for a while. */
export function createBases(params: {
  pools: Pools;
  /** @returns null when the origin does not answer. */
  ask: (origin: Origin) => Promise<BaseInfo | null>;
  isEjected: (origin: Origin) => boolean;
  now: () => number;
}): Bases {
  const { pools, ask, isEjected, now } = params;
  const { declared } = pools;
  const known = new Map<string, { base: BaseInfo; at: number }>();
  const askingUntil = new Map<string, number>();

  async function askPool(key: string, origins: readonly Origin[]): Promise<BaseInfo | null> {
    for (const origin of [...origins].sort((a, b) => Number(isEjected(a)) - Number(isEjected(b)))) {
      const found = await ask(origin);
      if (found === null) continue;
      if (origin.base !== undefined && found.id !== origin.base) {
        logLine('wrong_base', { origin: origin.id, configured: origin.base, serves: found.id });
        continue;
      }
      known.set(key, { base: found, at: now() });
      return found;
    }
    return null;
  }

  async function info(id: string | null): Promise<Result<BaseInfo, ApiError>> {
    const origins = pools.of(id);
    if (origins.length === 0) return err(baseUnserved(id ?? '', declared ?? []));
    const key = declared === null ? '' : (id ?? declared[0] ?? '');
    const before = known.get(key);
    // When it is old, one request asks; the others go on with what is known.
    if (before !== undefined && (now() - before.at < BASE_INFO_TTL_MS || now() < (askingUntil.get(key) ?? 0)))
      return ok(before.base);
    askingUntil.set(key, now() + ORIGIN_QUESTION_MS);
    const found = (await askPool(key, origins)) ?? before?.base;
    return found === undefined ? err(originUnavailable()) : ok(found);
  }

  return {
    declared,
    info,
    async ids() {
      if (declared !== null) return ok(declared);
      const found = await info(null);
      return found.ok ? ok([found.value.id]) : found;
    },
  };
}
