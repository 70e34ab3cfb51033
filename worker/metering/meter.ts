/** Meters completions: checks the key's limits, observes how each request ends, records its usage. */
import { BoundedMap } from '../platform/bounded-map.ts';
import type { KeyLimits } from '../../protocol/admin-api/keys.ts';
import { errorResponse, err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { finishOf, readUsageNote } from '../../protocol/origin-wire.ts';
import { RETRY_AFTER_MS, LAST_KNOWN_GOOD_ENTRIES } from '../limits.ts';
import { logLine, reasonOf } from '../log.ts';
import { BLOCK_MS, BLOCK_REQUESTS, BLOCKS_ABOVE_RPM, REFUSAL_MEMORY_MS, LEASE_RENEW_MS } from './limits.ts';
import { needsEnd } from './quota-state.ts';
import type {
  AskedCounter,
  BudgetAlerts,
  BudgetLeft,
  CompletionMeter,
  Quotas,
  UsageSink,
  CompletionEnding,
  MeteredAnswer,
  StreamOutcome,
  TokenCounts,
  LimitedCaller,
  QuotaDecision,
  LimitOf,
  QuotaMeter,
  QuotaReason,
  ReachedShare,
} from './ports.ts';
import { registryUnavailable } from '../errors.ts';

export interface Clock {
  /** Unix ms. */
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}

/** @param quotas null = limits are not enforced. */
export function createMeter(
  params: Clock & { quotas: Quotas | null; alerts: BudgetAlerts; usage: UsageSink },
): CompletionMeter {
  const askQuota = createAskQuota({
    ...params,
    newId: () => crypto.randomUUID(),
    retryAfterMs: RETRY_AFTER_MS,
    memoryMs: REFUSAL_MEMORY_MS,
    maxEntries: LAST_KNOWN_GOOD_ENTRIES,
  });
  return createCompletionMeter({
    ...params,
    askQuota,
    renewMs: LEASE_RENEW_MS,
  });
}

/** Budgets of tokens, for work that is not a completion. */
export interface Budgets {
  /**
   * Counts tokens of a fine-tuning job, up to `total`, of which `from` are known to be counted.
   * @returns `counted`: no counter was away. `least`: the budget of which least is left, null without budgets.
   * `error`: why a new job should not begin although there is one: a counter is away, and `on_outage` says so, or damaged.
   */
  spend(
    caller: LimitedCaller,
    tokens: { job: string; from: number; total: number },
  ): Promise<{ counted: boolean; least: (BudgetLeft & { of: LimitOf }) | null; error: ApiError | null }>;
}

/** @param quotas null = this deployment has no counters: as if none responded. */
export function createBudgets({
  quotas,
  alerts,
  now,
}: {
  quotas: Quotas | null;
  alerts: BudgetAlerts;
  now: () => number;
}): Budgets {
  return {
    async spend(caller, tokens) {
      const counters = countersOf(caller);
      if (counters.length === 0) return { counted: true, least: null, error: null };
      try {
        if (quotas === null) throw new Error('there is no binding QUOTAS');
        const spent = await quotas.spend(caller.tenant, { asked: askedOf(counters), ...tokens, at: now() });
        await tellReached(
          alerts,
          caller,
          counters,
          spent.map(({ reached }) => reached),
        );
        const damaged = counters.find((_, i) => spent[i]?.least?.reason === 'damaged');
        const [least = null] = counters
          .flatMap(({ of }, i) => {
            const budget = spent[i]?.least ?? null;
            return budget === null || budget.reason === 'damaged' ? [] : [{ ...budget, of }];
          })
          .sort((a, b) => a.left - b.left);
        return {
          counted: damaged === undefined,
          least,
          error: damaged === undefined ? null : damagedError(damaged.of),
        };
      } catch (error) {
        const open = counters.every(({ limits }) => limits.on_outage !== 'refuse');
        logLine('quota_unavailable', {
          ...{ key_id: caller.keyId, tenant: caller.tenant, open, reason: reasonOf(error) },
        });
        return { counted: false, least: null, error: open ? null : limitsUnchecked(RETRY_AFTER_MS) };
      }
    },
  };
}

/** Statuses of requests that did not complete; see {@link UsageEvent}. */
const CLIENT_LEFT = 499;
const BROKE_OFF = 502;

const UNBEGUN = { promptTokens: 0, completionTokens: 0, finish: null, firstAt: null, stalled: false };

export function createCompletionMeter(params: {
  askQuota: AskQuota;
  usage: UsageSink;
  now: () => number;
  renewMs: number;
}): CompletionMeter {
  const { askQuota, usage, now, renewMs } = params;

  return {
    async measure({ caller, requestId, gone, keepAlive, run, onEnd, onRefused, stages }) {
      const refusal = new AbortController();
      let over: () => void = () => undefined;
      const counted = new Promise<void>((resolve) => (over = resolve));
      // After a client disconnects, only work that is kept alive continues.
      if (gone.aborted) keepAlive(counted);
      else gone.addEventListener('abort', () => keepAlive(counted), { once: true });
      const limited = caller.limits !== undefined || caller.tenant_limits !== undefined;
      const endQuota = limited ? stages?.begin('quota') : undefined;
      const asking = askQuota(caller, keepAlive);
      // A cached refusal causes no work.
      if ('ok' in asking && !asking.ok) {
        over();
        endQuota?.({ attributes: { 'error.type': asking.error.error.code } });
        onRefused?.(asking.error.error);
        return refused(asking.error);
      }
      const running = run(limited ? AbortSignal.any([gone, refusal.signal]) : gone);
      // A failure of the work counts, but only after the quota's answer.
      running.catch(() => undefined);
      const asked = await asking;
      endQuota?.(asked.ok ? {} : { attributes: { 'error.type': asked.error.error.code } });
      if (!asked.ok) {
        over();
        refusal.abort();
        // An aborted request has no body to cancel.
        keepAlive(running.then(({ response }) => response.body?.cancel().catch(() => undefined)));
        onRefused?.(asked.error.error);
        return refused(asked.error);
      }
      const ticket = asked.value;
      const stopRenewing = renewEach(ticket, renewMs);
      let ended = false;
      const end = (served: MeteredAnswer['served'], ending: CompletionEnding) => {
        if (ended) return;
        ended = true;
        over();
        onEnd?.(ending);
        stopRenewing();
        const { status, promptTokens, completionTokens } = ending;
        const counts = { status, promptTokens, completionTokens };
        const { settle } = ticket;
        if (settle !== null) keepAlive(settle(counts.promptTokens + counts.completionTokens));
        if (served === null) return;
        const { keyId, tenant } = caller;
        usage.recordUsage({ keyId, tenant, ...served, ...counts, at: now(), requestId }, keepAlive);
      };

      let answer: MeteredAnswer;
      try {
        answer = await running;
      } catch (error) {
        const status = gone.aborted ? CLIENT_LEFT : 500;
        end(null, { ...UNBEGUN, status, endedAt: now() });
        throw error;
      }
      const { response, served, cancel } = answer;
      for (const [name, value] of ticket.headers) response.headers.set(name, value);
      const note = readUsageNote(answer.note);
      const promptTokens = note?.promptTokens ?? 0;
      if (answer.ended == null) {
        const endedAt = now();
        const left = gone.aborted && note === null ? await cancel?.() : undefined;
        end(served, {
          promptTokens: left?.tokens.promptTokens ?? promptTokens,
          completionTokens: left?.tokens.completionTokens ?? note?.completionTokens ?? 0,
          status: gone.aborted ? CLIENT_LEFT : response.status,
          finish: finishOf(note),
          ...{ firstAt: null, endedAt, stalled: false },
        });
        return response;
      }

      const endStream = async ({ how, note: last, events, firstAt }: StreamOutcome) => {
        const endedAt = now();
        const left = how === 'gone' && last === null ? await cancel?.() : undefined;
        // An origin that reports usage does so before the end of every stream that it completes.
        const isWhole = how === 'whole' && (note === null || last !== null);
        // What the client has received is known in any case.
        const counts: TokenCounts =
          left?.exact === true
            ? left.tokens
            : {
                promptTokens: last?.promptTokens ?? promptTokens,
                completionTokens: last?.completionTokens ?? events,
              };
        const clientLeft = how === 'gone' || last?.finish === 'left';
        end(served, {
          ...counts,
          status: clientLeft ? CLIENT_LEFT : isWhole ? response.status : BROKE_OFF,
          finish: finishOf(last),
          ...{ firstAt, endedAt, stalled: how === 'stalled' },
        });
      };
      keepAlive(answer.ended.then(endStream));
      return response;
    },
  };
}

const refused = ({ error, headers }: Refused): Response => errorResponse(error, Object.fromEntries(headers));

/** @returns a function that stops it. */
function renewEach({ renew }: Ticket, ms: number): () => void {
  if (renew === null) return () => undefined;
  const timer = setInterval(() => void renew(), ms);
  return () => clearInterval(timer);
}

/** A counter for one request. */
interface Counted extends AskedCounter {
  of: LimitOf;
}

/** @returns the name of the counter that all of the tenant's keys share; ids of keys have another prefix. */
export const tenantCounter = (tenant: string): string => `tenant:${tenant}`;

/** @returns none for a caller without limits. */
function countersOf({ keyId, tenant, limits, counter, tenant_limits }: LimitedCaller): Counted[] {
  return [
    ...(limits === undefined ? [] : [{ of: 'key' as const, counter: counter ?? keyId, limits }]),
    ...(tenant_limits === undefined
      ? []
      : [{ of: 'tenant' as const, counter: tenantCounter(tenant), limits: tenant_limits }]),
  ];
}

/** Requests that an isolate has taken from counters at once. */
interface Block {
  /** When it was asked for, unix ms. */
  at: number;
  granted: number;
  used: number;
  decisions: QuotaDecision[];
  /** The next one is on its way. */
  isAsking: boolean;
}

/** Whether an isolate may take several requests at once: no counter has to know of each, or of its end. */
const isInBlocks = (counters: readonly Counted[]): boolean =>
  counters.every(({ limits }) => !needsEnd(limits) && (limits.requests_per_minute ?? 0) > BLOCKS_ABOVE_RPM);

/** What counters have said, with the requests of a block that have not begun among those that remain. */
const withHeld = (decisions: readonly QuotaDecision[], held: number): QuotaDecision[] =>
  decisions.map(({ requests, ...decision }) => ({
    ...decision,
    requests: requests && { ...requests, remaining: requests.remaining + held },
  }));

const blockOf = (counters: readonly Counted[]): string => JSON.stringify(askedOf(counters));

const askedOf = (counters: readonly Counted[]): AskedCounter[] =>
  counters.map(({ counter, limits }) => ({ counter, limits }));

/** Never rejects. @param reached of each counter, in their order. @returns null if there is nothing to tell. */
function tellReached(
  alerts: BudgetAlerts,
  caller: LimitedCaller,
  counters: readonly Counted[],
  reached: readonly (readonly ReachedShare[])[],
): Promise<void> | null {
  const all = counters.flatMap(({ of, counter }, i) =>
    (reached[i] ?? []).map((share) => ({ ...share, of, counter })),
  );
  return all.length === 0 ? null : alerts.tell(caller, all);
}

interface Refused {
  error: ApiError;
  headers: [string, string][];
}

/** A request that was admitted, or that is not counted. */
interface Ticket {
  headers: [string, string][];
  /** Renews its lease; null = it has no place among concurrent ones. */
  renew: (() => Promise<void>) | null;
  /** Ends it; null = nobody counts what it has used. */
  settle: ((tokens: number) => Promise<void>) | null;
}

type Asked = Result<Ticket, Refused>;

/** Synchronous if no counter must be asked. Never throws. */
export type AskQuota = (
  caller: LimitedCaller,
  keepAlive: (work: Promise<unknown>) => void,
) => Asked | Promise<Asked>;

const FREE: Ticket = { headers: [], renew: null, settle: null };

/** Reasons that stay valid for a moment for everybody. A concurrent slot can become free at any time. */
const LASTING: ReadonlySet<string> = new Set(['requests', 'tokens', 'day', 'month', 'damaged']);

interface Refusal {
  decision: QuotaDecision;
  limits: string;
  at: number;
  until: number;
}

/**
 * Asks the counters of a key and of its tenant at once whether to admit a request. Callers without limits are not
 * counted. If they do not respond, `on_outage` decides; a request admitted that way is not counted, its tokens are if
 * they respond when it ends.
 * @param params.quotas null = this deployment has no counters: as if none responded.
 */
export function createAskQuota(params: {
  quotas: Quotas | null;
  alerts: BudgetAlerts;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  newId: () => string;
  retryAfterMs: number;
  /** How long a refusal is repeated without asking the counter. */
  memoryMs: number;
  maxEntries: number;
}): AskQuota {
  const { quotas, alerts, now, sleep, newId, retryAfterMs, memoryMs, maxEntries } = params;
  /**
   * Counter -> its last refusal, kept for a moment so that a client's quick retries reach neither counter nor
   * origin.
   */
  const refusals = new BoundedMap<string, Refusal>(maxEntries);

  /** Requests that the counters have counted and that may begin yet, by counters and limits. */
  const blocks = new BoundedMap<string, Block>(maxEntries);

  function remember(counter: string, limits: KeyLimits, decision: QuotaDecision): void {
    const { refused } = decision;
    if (refused === null || !LASTING.has(refused.reason)) return;
    const at = now();
    const until = at + Math.min(memoryMs, refused.retryAfterMs);
    refusals.set(counter, { decision, limits: JSON.stringify(limits), at, until });
  }

  function remembered({ counter, limits }: Counted): QuotaDecision | null {
    const known = refusals.get(counter);
    if (known === undefined || now() >= known.until || known.limits !== JSON.stringify(limits)) return null;
    const passed = now() - known.at;
    const { refused, requests, tokens } = known.decision;
    const later = <T extends { resetMs: number } | null>(meter: T): T =>
      meter === null ? meter : { ...meter, resetMs: Math.max(0, meter.resetMs - passed) };
    return {
      refused: refused && { ...refused, retryAfterMs: refused.retryAfterMs - passed },
      requests: later(requests),
      tokens: later(tokens),
      reached: [],
    };
  }

  const refusedBy = ({ of }: Counted, decision: QuotaDecision): Refused | null =>
    decision.refused === null
      ? null
      : { error: quotaError(of, decision.refused, now()), headers: refusalHeaders(of, decision) };

  const trouble = ({ keyId, tenant }: LimitedCaller, open: boolean, error: unknown) => {
    logLine('quota_unavailable', { ...{ key_id: keyId, tenant, open, reason: reasonOf(error) } });
  };

  function ticketOf(
    caller: LimitedCaller,
    counted: readonly Counted[],
    lease: string,
  ): Omit<Ticket, 'headers'> {
    const { tenant } = caller;
    const ended = counted.filter(({ limits }) => needsEnd(limits));
    const counters = ended.map(({ counter }) => counter);
    const asked = askedOf(ended);
    const open = counted.every(({ limits }) => limits.on_outage !== 'refuse');
    // A renewal that arrives after the end would hold the place again.
    let renewing: Promise<void> = Promise.resolve();
    const renew = (): Promise<void> => {
      const sent = quotas?.renew(tenant, { counters, lease, at: now() });
      renewing = (sent ?? renewing).catch((error: unknown) => trouble(caller, open, error));
      return renewing;
    };
    const settle = async (tokens: number): Promise<void> => {
      await renewing;
      // One retry: a repeat is not counted twice, and a moved object should not make a budget overrun.
      for (const again of [false, true]) {
        try {
          const reached = await quotas?.settle(tenant, { asked, lease, tokens, again, at: now() });
          await tellReached(alerts, caller, ended, reached ?? []);
          return;
        } catch (error) {
          if (again) trouble(caller, open, error);
          else await sleep(memoryMs);
        }
      }
    };
    return {
      renew: counted.some(({ limits }) => limits.concurrent !== undefined) ? renew : null,
      settle: counters.length > 0 ? settle : null,
    };
  }

  /** Of a block that was taken before, if one is left. */
  function takeHeld(key: string): Ticket | null {
    const block = blocks.get(key);
    if (block === undefined || block.used >= block.granted || now() >= block.at + BLOCK_MS) return null;
    block.used += 1;
    return { ...FREE, headers: quotaHeaders(withHeld(block.decisions, block.granted - block.used)) };
  }

  /** Takes what the caller has used of late, or twice that when it was not enough for its time. */
  async function takeBlock(tenant: string, counted: readonly Counted[]): Promise<QuotaDecision[]> {
    const key = blockOf(counted);
    const last = blocks.get(key);
    const at = now();
    let count = 1;
    // Others that come meanwhile take one each: they must not take ten each.
    if (last !== undefined && !last.isAsking)
      count = at < last.at + BLOCK_MS ? Math.min(BLOCK_REQUESTS, 2 * last.granted) : Math.max(1, last.used);
    if (count > 1 && last !== undefined) last.isAsking = true;
    try {
      const said = await quotas?.take(tenant, { asked: askedOf(counted), count, at });
      const { granted, decisions } = said ?? { granted: 0, decisions: [] };
      if (granted > 0 && (last === undefined || count > 1 || !last.isAsking))
        blocks.set(key, { at, granted, used: 1, decisions, isAsking: false });
      return withHeld(decisions, Math.max(0, granted - 1));
    } finally {
      if (count > 1 && last !== undefined) last.isAsking = false;
    }
  }

  async function ask(
    caller: LimitedCaller,
    counted: readonly Counted[],
    keepAlive: (work: Promise<unknown>) => void,
  ): Promise<Asked> {
    const lease = newId();
    let decisions: QuotaDecision[] = [];
    try {
      if (quotas === null) throw new Error('there is no binding QUOTAS');
      decisions = isInBlocks(counted)
        ? await takeBlock(caller.tenant, counted)
        : await quotas.admit(caller.tenant, { asked: askedOf(counted), lease, at: now() });
    } catch (error) {
      const open = counted.every(({ limits }) => limits.on_outage !== 'refuse');
      trouble(caller, open, error);
      if (!open) return err({ error: limitsUnchecked(retryAfterMs), headers: [] });
    }
    // Rarely anything: what is used is noticed where it is counted. But limits are lowered, and isolates end.
    const telling = tellReached(
      alerts,
      caller,
      counted,
      decisions.map(({ reached }) => reached),
    );
    if (telling !== null) keepAlive(telling);
    const refusals = decisions
      .flatMap((decision, i) => {
        const one = counted[i];
        if (one === undefined || decision.refused === null) return [];
        remember(one.counter, one.limits, decision);
        return [{ one, decision, afterMs: decision.refused.retryAfterMs }];
      })
      .sort((a, b) => b.afterMs - a.afterMs);
    const [longest] = refusals;
    const refused = longest === undefined ? null : refusedBy(longest.one, longest.decision);
    if (refused !== null) return err(refused);
    return ok({ headers: quotaHeaders(decisions), ...ticketOf(caller, counted, lease) });
  }

  return (caller, keepAlive) => {
    const counted = countersOf(caller);
    if (counted.length === 0) return ok(FREE);
    for (const one of counted) {
      const last = remembered(one);
      const refused = last === null ? null : refusedBy(one, last);
      if (refused !== null) return err(refused);
    }
    const held = isInBlocks(counted) ? takeHeld(blockOf(counted)) : null;
    return held === null ? ask(caller, counted, keepAlive) : ok(held);
  };
}

/** A duration in OpenAI's format: `120ms`, `1s`, `1m0.5s`. */
export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.ceil(ms)}ms`;
  const seconds = Math.ceil(ms / 100) / 10;
  const minutes = Math.floor(seconds / 60);
  const rest = Number((seconds - minutes * 60).toFixed(1));
  return minutes === 0 ? `${rest}s` : `${minutes}m${rest}s`;
}

/** @returns the one that is exhausted first; if equal, the key's, which comes first. */
const tightest = (meters: readonly (QuotaMeter | null)[]): QuotaMeter | null =>
  meters.reduce(
    (least, one) => (one !== null && (least === null || one.remaining < least.remaining) ? one : least),
    null,
  );

/** `x-ratelimit-*`: of the key's and the tenant's limits, those with less left. */
function quotaHeaders(decisions: readonly QuotaDecision[]): [string, string][] {
  const of = (what: 'requests' | 'tokens'): [string, string][] => {
    const meter = tightest(decisions.map((decision) => decision[what]));
    if (meter === null) return [];
    return [
      [`x-ratelimit-limit-${what}`, String(meter.limit)],
      [`x-ratelimit-remaining-${what}`, String(meter.remaining)],
      [`x-ratelimit-reset-${what}`, duration(meter.resetMs)],
    ];
  };
  return [...of('requests'), ...of('tokens')];
}

/** Headers of the limits that refused the request, and whose they are. */
const refusalHeaders = (of: LimitOf, decision: QuotaDecision): [string, string][] => [
  ...quotaHeaders([decision]),
  ['x-graft-limited-by', of],
];

const WORDS: Record<Exclude<QuotaReason, 'day' | 'month' | 'damaged'>, (limit: number) => string> = {
  requests: (limit) => `${limit} requests per minute`,
  tokens: (limit) => `${limit} tokens per minute`,
  concurrent: (limit) => `${limit} requests at the same time`,
};

const WHOSE: Record<LimitOf, { budget: string; are: string }> = {
  key: { budget: "This key's budget", are: 'This key is' },
  tenant: {
    budget: "The tenant's budget, for all of its keys,",
    are: 'All keys of this tenant together are',
  },
};

const limitsUnchecked = (retryAfterMs: number): ApiError =>
  registryUnavailable(retryAfterMs, "This key's limits cannot be checked now. Retry in a few seconds.");

const damagedError = (of: LimitOf): ApiError => ({
  code: 'quota_damaged',
  message:
    `The usage of this ${of} cannot be read, so its requests are refused. Ask the operator to reset ` +
    'it: graft limits reset.',
});

/**
 * @param at unix ms.
 * @returns a budget by its owner and size, and a sentence that says when it is renewed.
 */
export function budgetWords(
  { of, reason, limit, renewedInMs }: BudgetLeft & { of: LimitOf },
  at: number,
): { budget: string; renewed: string } {
  return {
    budget: `${WHOSE[of].budget} of ${limit} tokens per ${reason}`,
    renewed: `It is renewed on ${new Date(at + renewedInMs).toISOString()}`,
  };
}

/** @param of whose limits. @param at unix ms. */
function quotaError(of: LimitOf, refused: NonNullable<QuotaDecision['refused']>, at: number): ApiError {
  const { reason, limit, retryAfterMs } = refused;
  const { are } = WHOSE[of];
  if (reason === 'damaged') return damagedError(of);
  if (reason === 'day' || reason === 'month') {
    const words = budgetWords({ of, reason, limit, left: 0, renewedInMs: retryAfterMs }, at);
    return {
      code: 'insufficient_quota',
      message: `${words.budget} is used up. ${words.renewed}; ask for a larger budget if you cannot wait.`,
    };
  }
  return {
    code: 'rate_limit_exceeded',
    message: `${are} limited to ${WORDS[reason](limit)}. Please try again in ${duration(retryAfterMs)}.`,
    retryAfterMs: Math.ceil(retryAfterMs),
  };
}
