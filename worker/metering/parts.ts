/** Composition of what counts: quotas in Durable Objects, usage in D1. */
import * as limits from '../limits.ts';
import { createAskQuota } from './ask-quota.ts';
import { createD1Usage } from './d1-usage.ts';
import type { SqlDatabase } from '../platform/d1-database.ts';
import type { DurableNamespace } from '../platform/ask-object.ts';
import { createDoQuotas } from './do-quotas.ts';
import type { CompletionMeter, Quotas, UsageLedger } from './ports.ts';
import { createCompletionMeter } from './completion-meter.ts';
import { createUsageRecorder } from './usage-recorder.ts';

export interface Clock {
  /** Unix ms. */
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}

/** @param quotas null = no key's limits are counted. */
export function createMeter(params: Clock & { quotas: Quotas | null; usage: UsageLedger }): CompletionMeter {
  const newId = () => crypto.randomUUID();
  const askQuota = createAskQuota({
    ...params,
    newId,
    retryAfterMs: limits.RETRY_AFTER_MS,
    memoryMs: limits.REFUSAL_MEMORY_MS,
    maxEntries: limits.LAST_KNOWN_GOOD_ENTRIES,
  });
  const usage = createUsageRecorder({
    ...params,
    ledger: params.usage,
    newId,
    flushMs: limits.USAGE_FLUSH_MS,
    maxRows: limits.MAX_USAGE_ROWS,
    maxUnsentRows: limits.MAX_UNSENT_USAGE_ROWS,
    tries: limits.USAGE_TRIES,
  });
  return createCompletionMeter({
    ...params,
    askQuota,
    usage,
    renewMs: limits.LEASE_RENEW_MS,
  });
}

export function createMetering(
  params: Clock & { namespace: DurableNamespace | undefined; db: SqlDatabase },
): { meter: CompletionMeter; quotas: Quotas | null; usage: UsageLedger } {
  const { namespace, db } = params;
  const usage = createD1Usage(db, limits.USAGE_BATCH_MEMORY_MS);
  const quotas =
    namespace === undefined ? null : createDoQuotas({ namespace, timeoutMs: limits.QUOTA_TIMEOUT_MS });
  return { meter: createMeter({ ...params, quotas, usage }), quotas, usage };
}
