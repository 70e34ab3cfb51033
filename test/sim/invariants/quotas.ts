/**
 * What a counter of limits admits is what its limits allow, by its own account of what it was told. Docs: "What
 * counts" of docs/run/keys-and-limits.md, and worker/metering/quota-state.ts.
 */
import { z } from 'zod';
import { KeyLimits } from '../../../protocol/admin-api/keys.ts';
import { LEASE_KEPT_MS, LEASE_MS, QUOTA_WRITE_MS } from '../../../worker/metering/limits.ts';
import type { ObjectCall } from '../world/stores.ts';
import type { Fail } from './fail.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** "A counter that restarts has forgotten a second"; and what a simulated disk takes, ms. */
const FORGOTTEN_MS = QUOTA_WRITE_MS + 5;

const Call = z.object({
  call: z.string(),
  at: z.number().optional(),
  lease: z.string().optional(),
  tokens: z.number().optional(),
  again: z.boolean().optional(),
  asked: z.array(z.object({ counter: z.string(), limits: KeyLimits })).optional(),
  counters: z.array(z.string()).optional(),
  counter: z.string().optional(),
  but: z.array(z.string()).optional(),
});
const Admitted = z.array(z.object({ refused: z.unknown().nullable() }));
const Stored = z.object({ day: z.object({ period: z.number(), tokens: z.number() }) });

/** Something that counts: a request, or the tokens of one that has ended. */
interface Counted {
  lease: string;
  /** By the counter's clock, unix ms. */
  at: number;
  /** When it answered, ms of the world. */
  answeredAt: number;
  requests: number;
  tokens: number;
}

interface Lease {
  at: number;
  answeredAt: number;
}

interface Counter {
  /** The latest time that it was told, which is its own: unix ms. */
  clock: number;
  /** Its own at least, since a restart may have forgotten what it was told. */
  least: number;
  /** By id, with the last sign of life of each. */
  leases: Map<string, Lease>;
  counted: Counted[];
}

const newCounter = (): Counter => ({ clock: 0, least: 0, leases: new Map(), counted: [] });

/** Whose end matters to a counter: that of others is not told. */
const isHeld = ({ requests_per_minute: _, on_outage: _outage, ...others }: KeyLimits): boolean =>
  Object.keys(others).length > 0;

export function watchQuotas(fail: Fail): {
  /** A tenant's counters have answered a call, in the life that it began in. */
  answered: (call: ObjectCall) => void;
  /** What was not on its disk is lost. @param at ms. */
  restarted: (tenant: string, at: number) => void;
  atRest: (stored: ReadonlyMap<string, ReadonlyMap<string, unknown>>) => void;
} {
  const tenants = new Map<string, Map<string, Counter>>();

  /** At least what it must have counted: a call whose answer was lost is not known here. */
  function check(id: string, { clock, leases, counted }: Counter, limits: KeyLimits): void {
    const since = (from: number, what: 'requests' | 'tokens'): number =>
      counted.reduce((sum, one) => (one.at > from ? sum + one[what] : sum), 0);
    const today = clock - (clock % DAY_MS) - 1;
    const held = [...leases.values()].filter(({ at }) => at + LEASE_MS > clock).length;
    const used: readonly (readonly [number, number | undefined, string])[] = [
      [since(clock - MINUTE_MS, 'requests'), limits.requests_per_minute, 'requests in a minute'],
      [since(clock - MINUTE_MS, 'tokens'), limits.tokens_per_minute, 'tokens in a minute'],
      [since(today, 'tokens'), limits.tokens_per_day, 'tokens in a day'],
      [held, limits.concurrent, 'requests at once'],
    ];
    for (const [many, limit, what] of used)
      if (many >= (limit ?? Infinity))
        fail('5 quotas are not exceeded', `counter ${id} admits another after ${many} ${what} of ${limit}`);
  }

  return {
    answered({ id: tenant, body, text, at: answeredAt }) {
      const parsed = Call.safeParse(JSON.parse(body));
      if (!parsed.success) return;
      const { call, at = 0, lease, tokens = 0, again = false, asked = [] } = parsed.data;
      const counters = tenants.get(tenant) ?? new Map<string, Counter>();
      tenants.set(tenant, counters);
      const { but = [] } = parsed.data;
      if (call === 'forget') for (const one of counters.keys()) if (!but.includes(one)) counters.delete(one);
      if (call === 'reset') counters.delete(parsed.data.counter ?? '');
      const said = Admitted.safeParse(JSON.parse(text));
      const isAdmitted = said.success && said.data.every(({ refused }) => refused === null);
      const limitsOf = new Map(asked.map(({ counter, limits }) => [counter, limits]));
      for (const id of parsed.data.counters ?? limitsOf.keys()) {
        const counter = counters.get(id) ?? newCounter();
        counters.set(id, counter);
        // A fine-tuning job that spends tells it the time, too.
        counter.clock = Math.max(counter.clock, at);
        counter.least = Math.max(counter.least, at);
        if (lease === undefined) continue;
        const { clock, least, leases, counted } = counter;
        for (const [one, { at: last }] of leases)
          if (last + LEASE_MS + LEASE_KEPT_MS <= clock) leases.delete(one);
        if (call === 'renew') leases.set(lease, { at: least, answeredAt });
        if (call === 'admit' && isAdmitted) {
          const limits = limitsOf.get(id) ?? {};
          if (!leases.has(lease)) {
            check(`${tenant} ${id}`, counter, limits);
            counted.push({ lease, at: least, answeredAt, requests: 1, tokens: 0 });
          }
          if (isHeld(limits)) leases.set(lease, { at: least, answeredAt });
        }
        if (call === 'settle' && (leases.delete(lease) || !again))
          counted.push({ lease, at: least, answeredAt, requests: 0, tokens });
      }
    },
    restarted(tenant, at) {
      for (const counter of tenants.get(tenant)?.values() ?? []) {
        counter.least = 0;
        const stays = ({ answeredAt }: Lease): boolean => answeredAt <= at - FORGOTTEN_MS;
        counter.counted = counter.counted.filter(stays);
        for (const [lease, one] of counter.leases) if (!stays(one)) counter.leases.delete(lease);
      }
    },
    atRest(stored) {
      for (const [tenant, counters] of tenants)
        for (const [id, { counted }] of counters) {
          const disk = stored.get(tenant);
          const recent = disk?.get('recent') as ReadonlyMap<string, unknown> | undefined;
          const state = Stored.safeParse(recent?.get(id) ?? disk?.get(`counter:${id}`));
          const day = state.success ? state.data.day : { period: 0, tokens: 0 };
          const tokens = counted.reduce(
            (sum, one) => (Math.floor(one.at / DAY_MS) === day.period ? sum + one.tokens : sum),
            0,
          );
          if (day.tokens < tokens)
            fail(
              '5 quotas are not exceeded',
              `counter ${tenant} ${id} has counted ${day.tokens} tokens of ${tokens}`,
            );
        }
    },
  };
}
