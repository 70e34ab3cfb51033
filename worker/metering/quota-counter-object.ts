import { z } from 'zod';
import { KeyLimits } from '../../protocol/admin-api/keys.ts';
import { logLine, reasonOf } from '../log.ts';
import { askObject, type DurableNamespace } from '../platform/store-calls.ts';
import {
  BLOCK_REQUESTS,
  BUDGET_SHARES,
  DAMAGED_QUOTA_RETRY_MS,
  QUOTA_WRITE_MS,
  RECENT_COUNTERS,
} from './limits.ts';
import type { QuotaDecision, Quotas, ReachedShare, SpentBudget } from './ports.ts';
import { admit, emptyQuota, QuotaState, renew, settle, spend, take, tell } from './quota-state.ts';

const Meter = z.object({ limit: z.number(), remaining: z.number(), resetMs: z.number() }).nullable();
const share = {
  period: z.enum(['day', 'month']),
  begun: z.number(),
  limit: z.number(),
  percent: z.literal(BUDGET_SHARES),
};
const Reached: z.ZodType<ReachedShare[]> = z.array(
  z.object({ ...share, used: z.number(), renewedAt: z.number() }),
);
const Decisions: z.ZodType<QuotaDecision[]> = z.array(
  z.object({
    refused: z
      .object({
        reason: z.enum(['requests', 'tokens', 'concurrent', 'day', 'month', 'damaged']),
        limit: z.number(),
        retryAfterMs: z.number(),
      })
      .nullable(),
    requests: Meter,
    tokens: Meter,
    reached: Reached,
  }),
);

const Taken = z.object({ granted: z.int().min(0), decisions: Decisions });

const Budgets: z.ZodType<SpentBudget[]> = z.array(
  z.object({
    least: z
      .object({
        reason: z.enum(['day', 'month', 'damaged']),
        limit: z.number(),
        left: z.number(),
        renewedInMs: z.number(),
      })
      .nullable(),
    reached: Reached,
  }),
);

/** Quotas in Durable Objects (`QuotaCounter`), one per tenant. */
export function createDoQuotas(params: { namespace: DurableNamespace; timeoutMs: number }): Quotas {
  const { namespace, timeoutMs } = params;

  const ask = <T>(tenant: string, call: QuotaCall, parse: (answer: unknown) => T): Promise<T> =>
    askObject({ namespace, name: tenant, what: 'counter', call, parse, timeoutMs });
  const nothing = (): void => undefined;
  const understood =
    <T>(schema: z.ZodType<T[]>, { asked }: { asked: readonly unknown[] }) =>
    (answer: unknown): T[] => {
      const parsed = schema.safeParse(answer);
      if (parsed.success && parsed.data.length === asked.length) return parsed.data;
      throw new Error("the counter's answer was not understood");
    };

  return {
    admit: (tenant, of) => ask(tenant, { call: 'admit', ...of }, understood(Decisions, of)),
    take: (tenant, of) => ask(tenant, { call: 'take', ...of }, (answer) => Taken.parse(answer)),
    renew: (tenant, of) => ask(tenant, { call: 'renew', ...of }, nothing),
    settle: (tenant, of) => ask(tenant, { call: 'settle', ...of }, understood(z.array(Reached), of)),
    spend: (tenant, of) => ask(tenant, { call: 'spend', ...of }, understood(Budgets, of)),
    told: (tenant, shares) => ask(tenant, { call: 'told', shares }, nothing),
    reset: (tenant, counter) => ask(tenant, { call: 'reset', counter }, nothing),
    forget: (tenant, of) => ask(tenant, { call: 'forget', ...of }, nothing),
  };
}

/** The part of a Durable Object's storage that a counter uses. What is put without a pause is written together. */
export interface CounterStorage {
  get(key: string): Promise<unknown>;
  put(key: string, value: unknown, options?: { allowUnconfirmed?: boolean }): Promise<void>;
  deleteAll(): Promise<void>;
}

const asked = z.array(z.strictObject({ counter: z.string(), limits: KeyLimits })).readonly();
const counters = z.array(z.string()).readonly();
const lease = z.string();
const at = z.number();
const QuotaCall = z.discriminatedUnion('call', [
  z.strictObject({ call: z.literal('admit'), asked, lease, at }),
  z.strictObject({ call: z.literal('take'), asked, count: z.int().min(1).max(BLOCK_REQUESTS), at }),
  z.strictObject({ call: z.literal('renew'), counters, lease, at }),
  z.strictObject({
    call: z.literal('settle'),
    asked,
    lease,
    tokens: z.number().min(0),
    again: z.boolean(),
    at,
  }),
  z.strictObject({
    call: z.literal('spend'),
    asked,
    job: z.string(),
    from: z.number().min(0),
    total: z.number().min(0),
    at,
  }),
  z.strictObject({
    call: z.literal('told'),
    shares: z.array(z.strictObject({ counter: z.string(), ...share })).readonly(),
  }),
  z.strictObject({ call: z.literal('reset'), counter: z.string() }),
  z.strictObject({ call: z.literal('forget'), but: counters }),
]);
type QuotaCall = z.infer<typeof QuotaCall>;

/** Past usage is unknown, so everything is refused: budgets that restart at zero would be worthless. */
const DAMAGED: QuotaDecision = {
  refused: { reason: 'damaged', limit: 0, retryAfterMs: DAMAGED_QUOTA_RETRY_MS },
  requests: null,
  tokens: null,
  reached: [],
};
const DAMAGED_BUDGET: SpentBudget = {
  least: { reason: 'damaged', limit: 0, left: 0, renewedInMs: DAMAGED_QUOTA_RETRY_MS },
  reached: [],
};
/** Of a counter beside a damaged one. */
const UNCOUNTED: QuotaDecision = { refused: null, requests: null, tokens: null, reached: [] };

/** The row of counters that changed lately: one row for all of them is what makes a second's write cheap. */
const RECENT = 'recent';
/** Of each of the others. */
const rowOf = (counter: string): string => `counter:${counter}`;

/** What was stored of a counter, and cannot be read. */
class Damaged {
  constructor(readonly stored: unknown) {}
}

function readState(counter: string, stored: unknown): QuotaState | Damaged {
  const parsed = QuotaState.safeParse(stored);
  if (parsed.success) return parsed.data;
  logLine('quota_damaged', { counter, reason: z.prettifyError(parsed.error) });
  return new Damaged(stored);
}

/**
 * The counters of one tenant: its own and those of its keys, so that one call asks two. A Durable Object runs in one
 * place and handles one request at a time, so it counts exactly. It decides from memory, and writes all changes of a
 * second in one row: rows are what costs. A timer does it, for each setting of an alarm is billed as a row; an object
 * is evicted only when it has been idle for ten times as long. So a restart forgets a second. What cannot be read is kept
 * until it is reset.
 */
export class QuotaCounter {
  readonly #storage: CounterStorage;
  readonly #sleep: (ms: number) => Promise<void>;
  /** In memory: those of row {@link RECENT}, what changed last at the end. Null: the row cannot be read. */
  #recent: Promise<Map<string, QuotaState | Damaged> | null> | null = null;
  #isWriting = false;

  /** @param parts replaced by tests. */
  constructor(
    context: { storage: CounterStorage },
    _env?: unknown,
    parts?: { sleep: (ms: number) => Promise<void> },
  ) {
    this.#storage = context.storage;
    this.#sleep = parts?.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
  }

  async fetch(request: Request): Promise<Response> {
    const call = QuotaCall.parse(await request.json());
    if (call.call === 'reset' || call.call === 'forget') {
      await (call.call === 'reset' ? this.#reset(call.counter) : this.#forget(call.but));
      return Response.json(null);
    }
    const names =
      'counters' in call
        ? call.counters
        : ('asked' in call ? call.asked : call.shares).map(({ counter }) => counter);
    const states = await this.#load(names);
    // No `await` from here on, so requests cannot interleave.
    const answer = this.#apply(states, call);
    // What a job has trained in a minute is more than a second's.
    if (call.call === 'spend') await this.#write();
    else void this.#writeSoon();
    return Response.json(answer);
  }

  /** @param states of the counters in their order; null = damaged. */
  #apply(
    states: readonly (QuotaState | null)[],
    call: Exclude<QuotaCall, { call: 'reset' | 'forget' }>,
  ): unknown {
    const whole = states.filter((state) => state !== null);
    switch (call.call) {
      case 'admit':
      case 'take': {
        const isBlock = call.call === 'take';
        if (whole.length < states.length) {
          const decisions = states.map((state) => (state === null ? DAMAGED : UNCOUNTED));
          return isBlock ? { granted: 0, decisions } : decisions;
        }
        const asked = call.asked.map(({ limits }, i) => ({ limits, state: whole[i] as QuotaState }));
        return isBlock ? take(asked, call) : admit(asked, call);
      }
      case 'renew':
        for (const state of whole) renew(state, call);
        return null;
      case 'settle':
        return states.map((state, i) =>
          state === null ? [] : settle(state, { ...call, limits: call.asked[i]?.limits ?? {} }),
        );
      case 'told':
        states.forEach((state, i) => {
          const one = call.shares[i];
          if (state !== null && one !== undefined) tell(state, one);
        });
        return null;
      case 'spend':
        return states.map((state, i) =>
          state === null ? DAMAGED_BUDGET : spend(state, { ...call, limits: call.asked[i]?.limits ?? {} }),
        );
    }
  }

  async #load(counters: readonly string[]): Promise<(QuotaState | null)[]> {
    const recent = await this.#read();
    if (recent === null) return counters.map(() => null);
    const states: [counter: string, state: QuotaState | Damaged][] = [];
    for (const counter of counters) {
      let state = recent.get(counter);
      if (state === undefined) {
        const stored = await this.#storage.get(rowOf(counter));
        // Another call may have read it meanwhile.
        state = recent.get(counter) ?? (stored === undefined ? emptyQuota() : readState(counter, stored));
        recent.set(counter, state);
      }
      states.push([counter, state]);
    }
    return states.map(([counter, state]) => {
      recent.delete(counter);
      recent.set(counter, state);
      return state instanceof Damaged ? null : state;
    });
  }

  async #read(): Promise<Map<string, QuotaState | Damaged> | null> {
    this.#recent ??= this.#storage.get(RECENT).then((stored) => {
      if (stored === undefined) return new Map();
      if (stored instanceof Map)
        return new Map(
          [...(stored as Map<string, unknown>)].map(([counter, state]) => [
            counter,
            readState(counter, state),
          ]),
        );
      logLine('quota_damaged', { reason: 'the row of recent counters is no map' });
      return null;
    });
    try {
      return await this.#recent;
    } catch (error) {
      this.#recent = null;
      throw error;
    }
  }

  async #reset(counter: string): Promise<void> {
    const recent = await this.#readable();
    recent.set(counter, emptyQuota());
    await this.#write();
  }

  async #forget(but: readonly string[]): Promise<void> {
    const recent = await this.#readable();
    await this.#load(but);
    for (const counter of recent.keys()) if (!but.includes(counter)) recent.delete(counter);
    // Together, so that nothing ends between the two.
    await Promise.all([this.#storage.deleteAll(), ...(recent.size > 0 ? [this.#write()] : [])]);
  }

  /** As {@link #read}; of what cannot be read nothing is left. */
  async #readable(): Promise<Map<string, QuotaState | Damaged>> {
    const recent = (await this.#read()) ?? new Map<string, QuotaState | Damaged>();
    this.#recent = Promise.resolve(recent);
    return recent;
  }

  /** Later changes are written with it. */
  async #writeSoon(): Promise<void> {
    if (this.#isWriting) return;
    this.#isWriting = true;
    await this.#sleep(QUOTA_WRITE_MS);
    this.#isWriting = false;
    try {
      await this.#write({ allowUnconfirmed: true });
    } catch (error) {
      logLine('quota_not_stored', { reason: reasonOf(error) });
      void this.#writeSoon();
    }
  }

  /** @param options with `allowUnconfirmed`, nobody's answer waits for the disk. */
  async #write(options: { allowUnconfirmed?: boolean } = {}): Promise<void> {
    const recent = await this.#read();
    // What cannot be read may still help whoever investigates.
    if (recent === null) return;
    const storable = (state: QuotaState | Damaged): unknown =>
      state instanceof Damaged ? state.stored : state;
    const oldest = [...recent].slice(0, Math.max(0, recent.size - RECENT_COUNTERS));
    for (const [counter] of oldest) recent.delete(counter);
    try {
      await Promise.all([
        ...oldest.map(([counter, state]) => this.#storage.put(rowOf(counter), storable(state), options)),
        this.#storage.put(
          RECENT,
          new Map([...recent].map(([counter, state]) => [counter, storable(state)])),
          options,
        ),
      ]);
    } catch (error) {
      for (const [counter, state] of oldest) if (!recent.has(counter)) recent.set(counter, state);
      throw error;
    }
  }
}
