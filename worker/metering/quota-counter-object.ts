import { z } from 'zod';
import { KeyLimits } from '../../protocol/admin-api/keys.ts';
import { logLine, reasonOf } from '../log.ts';
import { askObject, type DurableNamespace } from '../platform/store-calls.ts';
import { DAMAGED_QUOTA_RETRY_MS, QUOTA_WRITE_MS } from './limits.ts';
import type { BudgetLeft, QuotaDecision, Quotas } from './ports.ts';
import { admit, emptyQuota, QuotaState, renew, settle, spend, undo } from './quota-state.ts';

const Meter = z.object({ limit: z.number(), remaining: z.number(), resetMs: z.number() }).nullable();
const Decision: z.ZodType<QuotaDecision> = z.object({
  refused: z
    .object({
      reason: z.enum(['requests', 'tokens', 'concurrent', 'day', 'month', 'damaged']),
      limit: z.number(),
      retryAfterMs: z.number(),
    })
    .nullable(),
  requests: Meter,
  tokens: Meter,
});

const Budget: z.ZodType<BudgetLeft | null> = z
  .object({
    reason: z.enum(['day', 'month', 'damaged']),
    limit: z.number(),
    left: z.number(),
    renewedInMs: z.number(),
  })
  .nullable();

/** Quotas in Durable Objects (`QuotaCounter`), one per counter. */
export function createDoQuotas(params: { namespace: DurableNamespace; timeoutMs: number }): Quotas {
  const { namespace, timeoutMs } = params;

  const ask = <T>(counter: string, call: QuotaCall, parse: (answer: unknown) => T): Promise<T> =>
    askObject({ namespace, name: counter, what: 'counter', call, parse, timeoutMs });
  const nothing = (): void => undefined;
  const understood =
    <T>(schema: z.ZodType<T>) =>
    (answer: unknown): T => {
      const parsed = schema.safeParse(answer);
      if (parsed.success) return parsed.data;
      throw new Error("the counter's answer was not understood");
    };

  return {
    admit: (counter, { limits, lease, at }) =>
      ask(counter, { call: 'admit', limits, lease, at }, understood(Decision)),
    undo: (counter, { lease, at }) => ask(counter, { call: 'undo', lease, at }, nothing),
    renew: (counter, { lease, at }) => ask(counter, { call: 'renew', lease, at }, nothing),
    settle: (counter, { lease, tokens, again, at }) =>
      ask(counter, { call: 'settle', lease, tokens, again, at }, nothing),
    spend: (counter, { limits, job, from, total, at }) =>
      ask(counter, { call: 'spend', limits, job, from, total, at }, understood(Budget)),
    reset: (counter) => ask(counter, { call: 'reset' }, nothing),
  };
}

/** The part of a Durable Object's storage that a counter uses. */
export interface CounterStorage {
  get(key: string): Promise<unknown>;
  put(key: string, value: unknown, options?: { allowUnconfirmed?: boolean }): Promise<void>;
}

const lease = z.string();
const at = z.number();
export const QuotaCall = z.discriminatedUnion('call', [
  z.strictObject({ call: z.literal('admit'), limits: KeyLimits, lease, at }),
  z.strictObject({ call: z.literal('undo'), lease, at }),
  z.strictObject({ call: z.literal('renew'), lease, at }),
  z.strictObject({ call: z.literal('settle'), lease, tokens: z.number().min(0), again: z.boolean(), at }),
  z.strictObject({
    call: z.literal('spend'),
    limits: KeyLimits,
    job: z.string(),
    from: z.number().min(0),
    total: z.number().min(0),
    at,
  }),
  z.strictObject({ call: z.literal('reset') }),
]);
export type QuotaCall = z.infer<typeof QuotaCall>;

/** Past usage is unknown, so everything is refused: budgets that restart at zero would be worthless. */
const DAMAGED: QuotaDecision = {
  refused: { reason: 'damaged', limit: 0, retryAfterMs: DAMAGED_QUOTA_RETRY_MS },
  requests: null,
  tokens: null,
};
const DAMAGED_BUDGET: BudgetLeft = {
  reason: 'damaged',
  limit: 0,
  left: 0,
  renewedInMs: DAMAGED_QUOTA_RETRY_MS,
};

/**
 * One per key with limits, and per tenant. A Durable Object runs in one place and handles one request at a
 * time, so it counts exactly. It decides from memory, and writes all changes of a second at once: rows are what costs.
 * A timer does it, for each setting of an alarm is billed as a row; an object is evicted only when it has been idle for
 * ten times as long. So a restart forgets a second. An unreadable state is kept until it is reset.
 */
export class QuotaCounter {
  readonly #storage: CounterStorage;
  /** null = damaged. */
  #state: Promise<QuotaState | null> | null = null;
  readonly #sleep: (ms: number) => Promise<void>;
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
    if (call.call === 'reset') this.#state = Promise.resolve(emptyQuota());
    const state = await this.#load();
    if (state === null)
      return Response.json(call.call === 'admit' ? DAMAGED : call.call === 'spend' ? DAMAGED_BUDGET : null);
    // No `await` from here on, so requests cannot interleave.
    const answer = this.#apply(state, call);
    // What is reset, or trained in a minute, is more than a second's.
    if (call.call === 'reset' || call.call === 'spend') await this.#storage.put('quota', state);
    else void this.#writeSoon();
    return Response.json(answer);
  }

  /** Later changes are written with it. */
  async #writeSoon(): Promise<void> {
    if (this.#isWriting) return;
    this.#isWriting = true;
    await this.#sleep(QUOTA_WRITE_MS);
    this.#isWriting = false;
    try {
      // Of now: it may have been reset.
      const state = await this.#load();
      await this.#storage.put('quota', state, { allowUnconfirmed: true });
    } catch (error) {
      logLine('quota_not_stored', { reason: reasonOf(error) });
      void this.#writeSoon();
    }
  }

  #apply(state: QuotaState, call: QuotaCall): unknown {
    switch (call.call) {
      case 'admit':
        return admit(state, call);
      case 'undo':
        undo(state, call);
        return null;
      case 'renew':
        renew(state, call);
        return null;
      case 'settle':
        settle(state, call);
        return null;
      case 'spend':
        return spend(state, call);
      case 'reset':
        return null;
    }
  }

  async #load(): Promise<QuotaState | null> {
    this.#state ??= this.#storage.get('quota').then((stored) => {
      if (stored === undefined) return emptyQuota();
      const parsed = QuotaState.safeParse(stored);
      if (parsed.success) return parsed.data;
      logLine('quota_damaged', { reason: z.prettifyError(parsed.error) });
      return null;
    });
    try {
      return await this.#state;
    } catch (error) {
      this.#state = null;
      throw error;
    }
  }
}
