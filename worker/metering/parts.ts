/** What counts completions: limits asked, usage noted. */
import { RETRY_AFTER_MS, LAST_KNOWN_GOOD_ENTRIES } from '../limits.ts';
import {
  REFUSAL_MEMORY_MS,
  USAGE_FLUSH_MS,
  MAX_USAGE_ROWS,
  MAX_UNSENT_USAGE_ROWS,
  USAGE_TRIES,
  LEASE_RENEW_MS,
} from './limits.ts';
import { createAskQuota } from './ask-quota.ts';
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
    retryAfterMs: RETRY_AFTER_MS,
    memoryMs: REFUSAL_MEMORY_MS,
    maxEntries: LAST_KNOWN_GOOD_ENTRIES,
  });
  const usage = createUsageRecorder({
    ...params,
    ledger: params.usage,
    newId,
    flushMs: USAGE_FLUSH_MS,
    maxRows: MAX_USAGE_ROWS,
    maxUnsentRows: MAX_UNSENT_USAGE_ROWS,
    tries: USAGE_TRIES,
  });
  return createCompletionMeter({
    ...params,
    askQuota,
    usage,
    renewMs: LEASE_RENEW_MS,
  });
}
