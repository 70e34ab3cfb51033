/** What counts completions: limits asked, how each ended, usage noted. */
import { errorResponse, finishOf, isEventStream, readUsageNote } from '../../protocol/index.ts';
import { RETRY_AFTER_MS, LAST_KNOWN_GOOD_ENTRIES } from '../limits.ts';
import { logLine } from '../log.ts';
import { createBatchedWrites } from '../platform/store-calls.ts';
import { createAskQuota, type AskQuota, type Refused, type Ticket } from './ask-quota.ts';
import { hasToken, UsageStripper } from './completion-stream.ts';
import {
  REFUSAL_MEMORY_MS,
  USAGE_FLUSH_MS,
  MAX_USAGE_ROWS,
  MAX_UNSENT_USAGE_ROWS,
  USAGE_TRIES,
  LEASE_RENEW_MS,
} from './limits.ts';
import type {
  CompletionMeter,
  Quotas,
  UsageLedger,
  UsageEvent,
  UsageRow,
  UsageSink,
  CompletionEnding,
  MeteredAnswer,
  StreamEnd,
  TokenCounts,
} from './ports.ts';

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

/** Statuses of what did not come to its end; see {@link UsageEvent}. */
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
    async measure({ caller, requestId, gone, takesComments, keepAlive, run, onEnd, onRefused }) {
      const refusal = new AbortController();
      let over: () => void = () => undefined;
      const counted = new Promise<void>((resolve) => (over = resolve));
      // What a client leaves is counted after it has gone, which ends all work that is not kept alive.
      if (gone.aborted) keepAlive(counted);
      else gone.addEventListener('abort', () => keepAlive(counted), { once: true });
      const limited = caller.limits !== undefined || caller.tenantLimits !== undefined;
      const asking = askQuota(caller);
      // A refusal that is known already costs nobody anything.
      if ('ok' in asking && !asking.ok) {
        over();
        onRefused?.(asking.error.error);
        return refused(asking.error);
      }
      const running = run(limited ? AbortSignal.any([gone, refusal.signal]) : gone);
      // A failure of the work is its own, but not before the quota has spoken.
      running.catch(() => undefined);
      const asked = await asking;
      if (!asked.ok) {
        over();
        refusal.abort();
        // A body that was called off with the request is none to cancel.
        keepAlive(running.then(({ response }) => response.body?.cancel().catch(() => undefined)));
        onRefused?.(asked.error.error);
        return refused(asked.error);
      }
      const ticket = asked.value;
      const stopRenewing = limited ? renewEach(ticket, renewMs) : () => undefined;
      let ended = false;
      const end = (served: MeteredAnswer['served'], ending: CompletionEnding) => {
        if (ended) return;
        ended = true;
        over();
        onEnd?.(ending);
        stopRenewing();
        const { status, promptTokens, completionTokens } = ending;
        const counts = { status, promptTokens, completionTokens };
        if (limited) keepAlive(ticket.settle(counts.promptTokens + counts.completionTokens));
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
      const { response, served, used } = answer;
      for (const [name, value] of ticket.headers) response.headers.set(name, value);
      const note = readUsageNote(answer.note);
      const promptTokens = note?.promptTokens ?? 0;
      const body = response.body as ReadableStream<Uint8Array> | null;
      if (body === null || !isEventStream(response.headers)) {
        const endedAt = now();
        const left = gone.aborted && note === null ? await used?.() : undefined;
        end(served, {
          promptTokens: left?.tokens.promptTokens ?? promptTokens,
          completionTokens: left?.tokens.completionTokens ?? note?.completionTokens ?? 0,
          status: gone.aborted ? CLIENT_LEFT : response.status,
          finish: finishOf(note),
          ...{ firstAt: null, endedAt, stalled: false },
        });
        return response;
      }

      const stripper = new UsageStripper(takesComments);
      let firstAt: number | null = null;
      let cut: (reason: Error) => void = () => undefined;
      let how: StreamEnd = 'whole';
      let ending = false;
      const endStream = (status: number) => {
        if (ending) return;
        ending = true;
        const endedAt = now();
        const last = stripper.note;
        const seen = (tokens?: TokenCounts): CompletionEnding => ({
          promptTokens: last?.promptTokens ?? promptTokens,
          completionTokens: last?.completionTokens ?? stripper.events,
          ...tokens,
          status: last?.finish === 'left' ? CLIENT_LEFT : status,
          finish: finishOf(last),
          ...{ firstAt, endedAt, stalled: how === 'stalled' },
        });
        if (status !== CLIENT_LEFT || last !== null || used === undefined) end(served, seen());
        // What its client has got is known in any case.
        else keepAlive(used().then((left) => end(served, seen(left.exact ? left.tokens : undefined))));
      };
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({
        start(controller) {
          cut = (reason) => controller.error(reason);
        },
        transform(chunk, controller) {
          if (firstAt === null && hasToken(chunk)) firstAt = now();
          for (const piece of stripper.push(chunk)) if (piece.length > 0) controller.enqueue(piece);
        },
        flush(controller) {
          for (const piece of stripper.end()) controller.enqueue(piece);
        },
      });
      // Not every end of a client's connection reaches the pipe (workerd#6832).
      if (gone.aborted) endStream(CLIENT_LEFT);
      else gone.addEventListener('abort', () => endStream(CLIENT_LEFT), { once: true });
      void answer.ended?.then((ended) => {
        how = ended;
        if (how !== 'gone') return;
        endStream(CLIENT_LEFT);
        // What waits in the pipe for a client that does not read would hold it for ever.
        cut(new Error('nobody reads'));
      });
      // An origin that notes usage does so before the end of every stream that it brings to its end.
      const isWhole = () => how === 'whole' && (note === null || stripper.note !== null);
      keepAlive(
        body.pipeTo(writable).then(
          () => endStream(isWhole() ? response.status : BROKE_OFF),
          () => endStream(gone.aborted || stripper.note !== null ? CLIENT_LEFT : BROKE_OFF),
        ),
      );
      return new Response(readable, response);
    },
  };
}

const refused = ({ error, headers }: Refused): Response => errorResponse(error, Object.fromEntries(headers));

/** @returns what ends it. */
function renewEach(ticket: Ticket, ms: number): () => void {
  const timer = setInterval(() => void ticket.renew(), ms);
  return () => clearInterval(timer);
}
