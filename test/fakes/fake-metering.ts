import {
  admit,
  emptyQuota,
  renew,
  settle,
  spend,
  take,
  tell,
  type QuotaState,
} from '../../worker/metering/quota-state.ts';
import { StoreUnavailable } from '../../worker/platform/ports.ts';
import type { Quotas } from '../../worker/metering/ports.ts';

export interface FakeQuotas extends Quotas {
  /** Every call fails while it is set. */
  down: boolean;
  /** Calls as `admit <counter> <counter>`, in order. */
  readonly calls: string[];
}

/** Counters in memory, with the same arithmetic. */
export function createFakeQuotas(): FakeQuotas {
  const tenants = new Map<string, Map<string, QuotaState>>();
  const calls: string[] = [];
  const of = (call: string, tenant: string, counters: readonly string[]): QuotaState[] => {
    calls.push([call, ...counters].join(' '));
    if (fake.down) throw new StoreUnavailable('DO', new Error('down'));
    const states = tenants.get(tenant) ?? new Map<string, QuotaState>();
    tenants.set(tenant, states);
    return counters.map((counter) => {
      const state = states.get(counter) ?? emptyQuota();
      states.set(counter, state);
      return state;
    });
  };
  const asked = (call: string, tenant: string, counters: Parameters<Quotas['admit']>[1]['asked']) => {
    const states = of(
      call,
      tenant,
      counters.map(({ counter }) => counter),
    );
    return counters.map(({ limits }, i) => ({ limits, state: states[i] ?? emptyQuota() }));
  };
  const fake: FakeQuotas = {
    down: false,
    calls,
    admit: async (tenant, ask) => admit(asked('admit', tenant, ask.asked), ask),
    take: async (tenant, ask) => take(asked('take', tenant, ask.asked), ask),
    async renew(tenant, ask) {
      for (const state of of('renew', tenant, ask.counters)) renew(state, ask);
    },
    async settle(tenant, ask) {
      return asked('settle', tenant, ask.asked).map(({ state, limits }) => settle(state, { ...ask, limits }));
    },
    spend: async (tenant, ask) =>
      asked('spend', tenant, ask.asked).map(({ state, limits }) => spend(state, { ...ask, limits })),
    async told(tenant, shares) {
      const states = of(
        'told',
        tenant,
        shares.map(({ counter }) => counter),
      );
      shares.forEach((share, i) => tell(states[i] ?? emptyQuota(), share));
    },
    async reset(tenant, counter) {
      of('reset', tenant, [counter]);
      tenants.get(tenant)?.set(counter, emptyQuota());
    },
    async forget(tenant, { but }) {
      of('forget', tenant, []);
      const counters = tenants.get(tenant) ?? new Map<string, QuotaState>();
      for (const counter of counters.keys()) if (!but.includes(counter)) counters.delete(counter);
    },
  };
  return fake;
}
