import {
  admit,
  emptyQuota,
  renew,
  settle,
  spend,
  undo,
  type QuotaState,
} from '../../worker/metering/quota-state.ts';
import { StoreUnavailable } from '../../worker/platform/ports.ts';
import type { Quotas } from '../../worker/metering/ports.ts';

export interface FakeQuotas extends Quotas {
  /** Every call fails while it is set. */
  down: boolean;
  /** Calls as `admit <counter>`, in order. */
  readonly calls: string[];
}

/** Counters in memory, with the same arithmetic. */
export function createFakeQuotas(): FakeQuotas {
  const states = new Map<string, QuotaState>();
  const calls: string[] = [];
  const of = (call: string, counter: string): QuotaState => {
    calls.push(`${call} ${counter}`);
    if (fake.down) throw new StoreUnavailable('DO', new Error('down'));
    const state = states.get(counter) ?? emptyQuota();
    states.set(counter, state);
    return state;
  };
  const fake: FakeQuotas = {
    down: false,
    calls,
    admit: async (counter, ask) => admit(of('admit', counter), ask),
    undo: async (counter, ask) => undo(of('undo', counter), ask),
    renew: async (counter, ask) => renew(of('renew', counter), ask),
    settle: async (counter, ask) => settle(of('settle', counter), ask),
    spend: async (counter, ask) => spend(of('spend', counter), ask),
    async reset(counter) {
      of('reset', counter);
      states.set(counter, emptyQuota());
    },
  };
  return fake;
}
