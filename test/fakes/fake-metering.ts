import type { UsageGroup } from '../../protocol/index.ts';
import {
  admit,
  emptyQuota,
  renew,
  settle,
  undo,
  type QuotaState,
} from '../../worker/metering/quota-state.ts';
import { StoreUnavailable } from '../../worker/platform/ports.ts';
import type { Quotas, UsageLedger, UsageRow } from '../../worker/metering/ports.ts';

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
    async reset(counter) {
      of('reset', counter);
      states.set(counter, emptyQuota());
    },
  };
  return fake;
}

const iso = (hour: number, characters: number): string =>
  new Date(hour * 3_600_000).toISOString().slice(0, characters);

const GROUPS: Record<UsageGroup, (row: UsageRow) => string> = {
  key: ({ keyId }) => keyId,
  tenant: ({ tenant }) => tenant,
  name: ({ name }) => name,
  version: ({ name, version }) => (version === 0 ? name : `${name}@${version}`),
  day: ({ hour }) => iso(hour, 10),
  hour: ({ hour }) => iso(hour, 13),
};

export function createFakeUsage(): UsageLedger {
  const batches = new Map<string, readonly UsageRow[]>();
  return {
    async add({ id, rows }) {
      if (!batches.has(id)) batches.set(id, structuredClone(rows));
    },
    async costs({ by, tenant, from, to, prices }) {
      const costs = new Map<string, number>();
      for (const row of [...batches.values()].flat()) {
        if ((tenant !== null && row.tenant !== tenant) || row.hour < from || row.hour >= to) continue;
        // Of no version it knows the base.
        const price = prices.bases[row.name] ?? prices;
        const cost = row.promptTokens * price.prompt + row.completionTokens * price.completion;
        const group = GROUPS[by](row);
        costs.set(group, (costs.get(group) ?? 0) + cost / 1e6);
      }
      return costs;
    },
    async sum({ by, tenant, name, from, to, limit }) {
      const sums = new Map<
        string,
        { requests: number; errors: number; promptTokens: number; completionTokens: number; lastHour: number }
      >();
      for (const row of [...batches.values()].flat()) {
        if ((tenant !== null && row.tenant !== tenant) || row.hour < from || row.hour >= to) continue;
        if (name !== undefined && row.name !== name) continue;
        const group = GROUPS[by](row);
        const sum = sums.get(group) ?? {
          ...{ requests: 0, errors: 0, promptTokens: 0, completionTokens: 0, lastHour: 0 },
        };
        sum.requests += row.requests;
        sum.errors += row.errors;
        sum.promptTokens += row.promptTokens;
        sum.completionTokens += row.completionTokens;
        sum.lastHour = Math.max(sum.lastHour, row.hour);
        sums.set(group, sum);
      }
      const byTime = by === 'day' || by === 'hour';
      return [...sums]
        .map(([group, sum]) => ({ group, ...sum }))
        .sort(
          (a, b) =>
            (byTime ? 0 : total(b) - total(a) || b.requests - a.requests) || (a.group < b.group ? -1 : 1),
        )
        .slice(0, limit);
    },
  };
}

const total = (sum: { promptTokens: number; completionTokens: number }): number =>
  sum.promptTokens + sum.completionTokens;
