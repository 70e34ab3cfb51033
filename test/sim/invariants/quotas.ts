/** What a counter of limits was told is what it has counted. */
import { z } from 'zod';
import type { ObjectCall } from '../world/stores.ts';
import type { Fail } from './fail.ts';

/** A lease is remembered for ten minutes at least after its last sign of life; here only what ends soon is compared. */
const LEASE_MS = 120_000;

const Call = z.object({
  call: z.string(),
  lease: z.string().optional(),
  tokens: z.number().optional(),
});
const Admitted = z.object({ refused: z.unknown().nullable() });
const Stored = z.object({ day: z.object({ tokens: z.number() }) });

interface Counter {
  /** Leases that it has admitted, and when. */
  leases: Map<string, number>;
  tokens: number;
}

export function watchQuotas(fail: Fail): {
  /** A counter has answered a call, in the life that it began in. */
  answered: (call: ObjectCall) => void;
  /** What was not on its disk is lost. */
  restarted: (id: string) => void;
  atRest: (stored: ReadonlyMap<string, ReadonlyMap<string, unknown>>) => void;
} {
  const counters = new Map<string, Counter>();
  /** It may have lost something, and is not compared. */
  const doubtful = new Set<string>();
  return {
    answered({ id, body, text, at }) {
      const call = Call.safeParse(JSON.parse(body));
      if (!call.success) return;
      const { lease, tokens = 0 } = call.data;
      if (call.data.call === 'reset') counters.delete(id);
      const counter = counters.get(id) ?? { leases: new Map(), tokens: 0 };
      counters.set(id, counter);
      if (lease === undefined) return;
      if (call.data.call === 'undo') counter.leases.delete(lease);
      if (call.data.call === 'admit') {
        const said = Admitted.safeParse(JSON.parse(text));
        if (said.success && said.data.refused === null) counter.leases.set(lease, at);
      }
      if (call.data.call !== 'settle') return;
      const admitted = counter.leases.get(lease);
      if (admitted !== undefined && at - admitted < LEASE_MS) counter.tokens += tokens;
      counter.leases.delete(lease);
    },
    restarted: (id) => void doubtful.add(id),
    atRest(stored) {
      for (const [id, { tokens }] of counters) {
        if (doubtful.has(id)) continue;
        const state = Stored.safeParse(stored.get(id)?.get('quota'));
        const counted = state.success ? state.data.day.tokens : 0;
        if (counted < tokens)
          fail('5 quotas are not exceeded', `counter ${id} has counted ${counted} tokens of ${tokens}`);
      }
    },
  };
}
