import { logLine } from '../log.ts';
import type { UsageEvent, UsageLedger, UsageRow, UsageSink } from './ports.ts';
import { createBatchedWrites } from '../platform/batched-writes.ts';

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
