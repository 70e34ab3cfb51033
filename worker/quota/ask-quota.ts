import { err, ok, type ApiError, type Result } from '../../protocol/index.ts';
import { logLine } from '../observe/log-line.ts';
import type { KeyLimits, QuotaDecision, Quotas } from '../stores/types-metering.ts';
import { quotaError, quotaHeaders } from './quota-answer.ts';

export interface Refused {
  error: ApiError;
  headers: [string, string][];
}

/** A request that passed, or that nobody counts. */
export interface Ticket {
  headers: [string, string][];
  /** Says that it is under way still. */
  renew(): Promise<void>;
  /** Ends it. */
  settle(tokens: number): Promise<void>;
}

export type Asked = Result<Ticket, Refused>;

/** At once when nobody has to be asked. Never throws. */
export type AskQuota = (caller: {
  keyId: string;
  limits?: KeyLimits | undefined;
  counter?: string | undefined;
}) => Asked | Promise<Asked>;

const FREE: Ticket = { headers: [], renew: async () => undefined, settle: async () => undefined };

/** Refusals that stay true for a moment whoever asks; places are freed at any time. */
const LASTING: ReadonlySet<string> = new Set(['requests', 'tokens', 'day', 'month']);

/**
 * Asks a key's counter whether a request may pass; keys without limits are not asked about. A counter that does not
 * answer lets it pass, or not, as the key says; what passes so is not counted.
 * @param params.quotas null = this deployment has no counters: as if none answered.
 */
export function createAskQuota(params: {
  quotas: Quotas | null;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  newId: () => string;
  retryAfterMs: number;
  /** How long a refusal is repeated without asking. */
  memoryMs: number;
  maxEntries: number;
}): AskQuota {
  const { quotas, now, sleep, newId, retryAfterMs, memoryMs, maxEntries } = params;
  /** Counter -> its last refusal, for a moment: a client that goes on asking costs neither counter nor origin. */
  const refusals = new Map<string, { decision: QuotaDecision; limits: string; at: number; until: number }>();

  function remember(counter: string, limits: KeyLimits, decision: QuotaDecision): void {
    const { refused } = decision;
    if (refused === null || !LASTING.has(refused.reason)) return;
    refusals.delete(counter);
    const at = now();
    const until = at + Math.min(memoryMs, refused.retryAfterMs);
    refusals.set(counter, { decision, limits: JSON.stringify(limits), at, until });
    const oldest = refusals.keys().next();
    if (refusals.size > maxEntries && !oldest.done) refusals.delete(oldest.value);
  }

  function remembered(counter: string, limits: KeyLimits): QuotaDecision | null {
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
    };
  }

  return ({ keyId, limits, counter = keyId }) => {
    if (limits === undefined) return ok(FREE);
    const trouble = (reason: string) => {
      logLine('quota_unavailable', { key_id: keyId, open: limits.onOutage !== 'refuse', reason });
    };
    const lease = newId();
    const ticket = (headers: [string, string][]): Ticket => ({
      headers,
      renew: async () => {
        await quotas?.renew(counter, { lease, at: now() }).catch((error: unknown) => trouble(String(error)));
      },
      settle: async (tokens) => {
        // Once more: it is not counted twice, and a budget should not be passed by an object that moved.
        for (const pause of [memoryMs, null]) {
          try {
            return await quotas?.settle(counter, { lease, tokens, at: now() });
          } catch (error) {
            if (pause === null) trouble(String(error));
            else await sleep(pause);
          }
        }
      },
    });
    const say = (decision: QuotaDecision): Asked => {
      const headers = quotaHeaders(decision);
      const { refused } = decision;
      return refused === null ? ok(ticket(headers)) : err({ error: quotaError(refused, now()), headers });
    };
    const ask = async (): Promise<Asked> => {
      try {
        if (quotas === null) throw new Error('there is no binding QUOTAS');
        const decision = await quotas.admit(counter, { limits, lease, at: now() });
        remember(counter, limits, decision);
        return say(decision);
      } catch (error) {
        trouble(error instanceof Error ? error.message : 'unknown error');
        if (limits.onOutage !== 'refuse') return ok(ticket([]));
        const message = "This key's limits cannot be checked at the moment. Please try again.";
        return err({ error: { code: 'registry_unavailable', message, retryAfterMs }, headers: [] });
      }
    };
    const last = remembered(counter, limits);
    return last === null ? ask() : say(last);
  };
}
