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
import type { CompletionMeter, Quotas, UsageLedger, UsageEvent, UsageRow, UsageSink } from './ports.ts';
import { createCompletionMeter } from './completion-meter.ts';
import { logLine } from '../log.ts';
import { createBatchedWrites } from '../platform/store-calls.ts';

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

interface Batch {
  id: string;
  at: number;
  rows: UsageRow[];
}

const HOUR_MS = 3_600_000;

/** Sums up what this isolate serves and writes it in batches; see {@link createBatchedWrites}. */
export function createUsageRecorder(params: {
  ledger: UsageLedger;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  newId: () => string;
  flushMs: number;
  /** Of one batch. */
  maxRows: number;
  /** Waiting for the database. */
  maxUnsentRows: number;
  tries: number;
}): UsageSink {
  const { ledger, now, newId, maxRows, maxUnsentRows } = params;
  let open = new Map<string, UsageRow>();
  const writes = createBatchedWrites<Batch>({
    ...params,
    close,
    write: (batch) => ledger.add(batch),
    lane: () => 'the database',
    size: ({ rows }) => rows.length,
    maxUnsent: maxUnsentRows,
    onRefused: ({ rows }, reason) => logLine('usage_not_written', { reason, rows: rows.length }),
    onLost({ rows }) {
      const requests = rows.reduce((sum, row) => sum + row.requests, 0);
      logLine('usage_lost', { requests, rows: rows.length });
    },
  });

  function note(event: UsageEvent): void {
    const hour = Math.floor(event.at / HOUR_MS);
    const { tenant, keyId, name, version } = event;
    const key = `${hour} ${keyId} ${version} ${name}`;
    let row = open.get(key);
    if (row === undefined) {
      if (open.size >= maxRows) close();
      row = {
        hour,
        tenant,
        keyId,
        name,
        version,
        requests: 0,
        errors: 0,
        promptTokens: 0,
        completionTokens: 0,
      };
      open.set(key, row);
    }
    row.requests += 1;
    // 499: the client left, which is no failure.
    if (event.status >= 400 && event.status !== 499) row.errors += 1;
    row.promptTokens += event.promptTokens;
    row.completionTokens += event.completionTokens;
  }

  function close(): void {
    if (open.size === 0) return;
    const rows = [...open.values()];
    open = new Map();
    writes.add({ id: newId(), at: now(), rows });
  }

  return {
    recordUsage(event, keepAlive) {
      note(event);
      writes.flushSoon(keepAlive);
    },
  };
}
