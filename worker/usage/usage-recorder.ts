import { logLine } from '../observe/log-line.ts';
import type { UsageEvent, UsageLedger, UsageRow, UsageSink } from '../stores/types-metering.ts';

interface Batch {
  id: string;
  at: number;
  rows: UsageRow[];
}

const HOUR_MS = 3_600_000;
/** A flush that has not ended by then was cut off with the request that carried it. */
const FLUSH_ENDS_MS = 30_000;

/**
 * Sums up what this isolate serves and writes it in batches, beside and after the responses: one write for all that came
 * within `flushMs`. A batch has an id and is tried again with it, so that a write whose answer was lost counts once. What
 * an isolate has noted and not yet written is lost if it dies; what the database refuses is kept and sent with the next
 * batch.
 */
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
  const { ledger, now, sleep, newId, flushMs, maxRows, maxUnsentRows, tries } = params;
  let open = new Map<string, UsageRow>();
  const unsent: Batch[] = [];
  /** Unix ms at which the flush that is under way began; -Infinity = none. */
  let flushing = -Infinity;

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
    unsent.push({ id: newId(), at: now(), rows: [...open.values()] });
    open = new Map();
    let waiting = unsent.reduce((sum, { rows }) => sum + rows.length, 0);
    while (waiting > maxUnsentRows) {
      const lost = unsent.shift();
      if (lost === undefined) return;
      waiting -= lost.rows.length;
      const requests = lost.rows.reduce((sum, row) => sum + row.requests, 0);
      logLine('usage_lost', { requests, rows: lost.rows.length });
    }
  }

  async function send(batch: Batch): Promise<boolean> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await ledger.add(batch);
        return true;
      } catch (error) {
        if (attempt < tries) {
          await sleep(flushMs * attempt);
          continue;
        }
        const reason = error instanceof Error ? error.message : 'unknown error';
        logLine('usage_not_written', { reason, rows: batch.rows.length });
        return false;
      }
    }
  }

  async function flush(): Promise<void> {
    await sleep(flushMs);
    // What comes from now on begins the next flush.
    flushing = -Infinity;
    close();
    for (const batch of [...unsent]) {
      // One that another flush is sending is written once whoever comes second: it has its id.
      if (!(await send(batch))) return;
      const at = unsent.indexOf(batch);
      if (at !== -1) unsent.splice(at, 1);
    }
  }

  return {
    recordUsage(event, keepAlive) {
      note(event);
      if (now() - flushing < FLUSH_ENDS_MS) return;
      flushing = now();
      keepAlive(flush());
    },
  };
}
