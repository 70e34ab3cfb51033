/**
 * What an isolate learns of its pools from origins' answers, and what it tells them: it carries each origin's note to
 * the others, since origins call nobody. No I/O, no clock.
 */
import {
  ASK_HEADER,
  chainHash,
  originHash,
  POOL_ASK_MS,
  POOL_HEADER,
  PoolNotes,
  readPoolNotes,
} from '../../protocol/pool-notes.ts';
import type { Origin, OriginHealth, ToldDemand } from './routing.ts';

interface Pool {
  notes: PoolNotes;
  /** Only these are followed, whatever an answer names. */
  origins: Map<number, Origin>;
  /** When all notes last came, unix ms. */
  toldAt: number;
}

/** @param params.origins from the configuration; those of one base are a pool. */
export function createPoolKnowledge(params: {
  origins: readonly Origin[];
  health: Pick<OriginHealth, 'heard'>;
  now: () => number;
}) {
  const { health, now } = params;
  const pools = new Map<string, Pool>();
  for (const origin of params.origins) {
    const key = origin.base ?? '';
    const pool = pools.get(key) ?? { notes: new PoolNotes(now), origins: new Map(), toldAt: -Infinity };
    pools.set(key, pool);
    pool.origins.set(originHash(origin.id), origin);
  }
  const poolOf = (origin: Origin): Pool | null => {
    const pool = pools.get(origin.base ?? '');
    return pool === undefined || pool.origins.size < 2 ? null : pool;
  };

  return {
    /**
     * Of a request to the origin; none if it has no peers.
     * @param mayTurn it may refuse because it is crowded.
     */
    headersFor(origin: Origin, mayTurn: boolean): Record<string, string> {
      const pool = poolOf(origin);
      if (pool === null) return {};
      const ask = now() - pool.toldAt >= POOL_ASK_MS ? 'pool' : 'own';
      const carried = pool.notes.writeCarried();
      return {
        [ASK_HEADER]: mayTurn ? `${ask} turn` : ask,
        ...(carried === '' ? {} : { [POOL_HEADER]: carried }),
      };
    },

    /** @param header its answer's {@link POOL_HEADER}. */
    heard(origin: Origin, header: string | null): void {
      const pool = header === null ? null : poolOf(origin);
      if (pool === null) return;
      const by = originHash(origin.id);
      for (const { origin: hash, note, ageMs } of readPoolNotes(header) ?? []) {
        const known = pool.origins.get(hash);
        if (known === undefined) continue;
        const at = now() - ageMs;
        const isNew = pool.notes.add(hash, note, { at, by });
        if (!isNew || known.id === origin.id) continue;
        pool.toldAt = now();
        health.heard(known, note, at);
      }
    },

    /** @param among of one pool. */
    demandOf(among: readonly Origin[], chain: readonly { digest: string }[]): ToldDemand {
      const hash = chainHash(chain);
      const pool = among[0] === undefined ? null : poolOf(among[0]);
      const told: ToldDemand & { by: Map<string, number> } = { rows: 0, holders: new Map(), by: new Map() };
      for (const [id, { chains, at, by }] of pool?.notes.all() ?? []) {
        const rows = chains.get(hash);
        const origin = pool?.origins.get(id);
        if (rows === undefined || origin === undefined) continue;
        const teller = pool?.origins.get(by)?.id ?? '';
        told.rows += rows;
        told.by.set(teller, (told.by.get(teller) ?? 0) + rows);
        told.holders.set(origin.id, at);
      }
      return told;
    },
  };
}

export type PoolKnowledge = ReturnType<typeof createPoolKnowledge>;
