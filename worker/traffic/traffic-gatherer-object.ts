import { z } from 'zod';
import { RequestView } from '../../protocol/admin-api/traffic.ts';
import { logLine, reasonOf } from '../log.ts';
import { askObject, flushMs, type DurableNamespace } from '../platform/store-calls.ts';
import { guardDatabase, type SqlDatabase } from '../platform/d1-database.ts';
import { createD1Traffic } from './d1-traffic.ts';
import { COLLECT_FULL, COLLECT_MOST_MS, COLLECT_QUIET_MS, MAX_UNSENT_TRAFFIC } from './limits.ts';
import type { TrafficBatch, TrafficCollector } from './ports.ts';
import { BUCKETS, gather } from './sum-traffic.ts';

const count = z.int().min(0);
const histogram = z.array(count).length(BUCKETS);

/** A batch sent to the collector. */
const CollectedBatch: z.ZodType<TrafficBatch> = z.object({
  id: z.string(),
  at: z.int(),
  rows: z.array(
    z.object({
      at: z.int(),
      tenant: z.string(),
      name: z.string(),
      keyId: z.string(),
      status: z.int(),
      code: z.string(),
      requests: count,
      promptTokens: count,
      completionTokens: count,
      ttft: histogram,
      duration: histogram,
    }),
  ),
  chunks: z.array(z.object({ tenant: z.string(), requests: z.array(RequestView), leftOut: count })),
});

/** A single one: it gets one call per isolate and flush, with some hundred bytes per row. */
const COLLECTOR = 'traffic';

/** A collector in a Durable Object (`TrafficGatherer`), which combines the writes of all isolates. */
export const createDoTraffic = (params: {
  namespace: DurableNamespace;
  timeoutMs: number;
}): TrafficCollector => ({
  add: (batch) =>
    askObject({
      ...params,
      name: COLLECTOR,
      what: 'collector of traffic',
      call: batch,
      parse: () => undefined,
    }),
});

/** The part of a Durable Object's storage that it uses. */
export interface GathererStorage {
  setAlarm(at: number): Promise<void>;
}

/** Recent batches' ids, so that a batch whose response was lost counts once. */
const KNOWN_BATCHES = 1_000;

/**
 * Sums what isolates send and writes it to D1 at most {@link COLLECT_MOST_MS} after the first batch, so a
 * busy name costs one row per write, however many isolates serve it. Nothing is on disk: if it crashes,
 * everything since its last write is lost.
 */
export class TrafficGatherer {
  readonly #storage: GathererStorage;
  readonly #ledger: TrafficCollector;
  readonly #now: () => number;
  readonly #quietMs: number;
  readonly #open = gather();
  readonly #known = new Set<string>();
  /** A batch that D1 rejected; resent unchanged, before later ones. */
  #refused: TrafficBatch | null = null;
  #waking = false;
  /** Unix ms of the first waiting batch. */
  #first = 0;
  #last = 0;

  /** @param parts replaced by tests. */
  constructor(
    context: { storage: GathererStorage },
    env: { DB: SqlDatabase; FLUSH_MS?: string },
    parts?: { now: () => number; ledger: TrafficCollector },
  ) {
    this.#storage = context.storage;
    this.#ledger = parts?.ledger ?? createD1Traffic(guardDatabase(env.DB));
    this.#now = parts?.now ?? Date.now;
    this.#quietMs = flushMs(env, COLLECT_QUIET_MS);
  }

  async fetch(request: Request): Promise<Response> {
    const { id, rows, chunks } = CollectedBatch.parse(await request.json());
    if (this.#known.has(id)) return Response.json(null);
    // The sender keeps the batch and retries.
    if (this.#open.size > MAX_UNSENT_TRAFFIC) return new Response(null, { status: 503 });
    this.#remember(id);
    this.#last = this.#now();
    if (this.#open.size === 0) this.#first = this.#last;
    this.#open.add(rows, chunks);
    await this.#wake();
    return Response.json(null);
  }

  async alarm(): Promise<void> {
    this.#waking = false;
    const now = this.#now();
    const isFull = this.#open.size >= COLLECT_FULL;
    const more = !isFull && now - this.#last < this.#quietMs && now - this.#first < COLLECT_MOST_MS;
    if (this.#refused === null && more) return this.#wake();
    if (this.#refused === null && this.#open.size > 0)
      this.#refused = { id: crypto.randomUUID(), at: now, ...this.#open.take() };
    const batch = this.#refused;
    if (batch === null) return;
    try {
      await this.#ledger.add(batch);
      this.#refused = null;
    } catch (error) {
      logLine('traffic_not_written', { reason: reasonOf(error), rows: batch.rows.length });
    }
    if (this.#refused !== null || this.#open.size > 0) await this.#wake();
  }

  async #wake(): Promise<void> {
    if (this.#waking) return;
    this.#waking = true;
    try {
      await this.#storage.setAlarm(this.#now() + this.#quietMs);
    } catch (error) {
      // The next call sets it again.
      this.#waking = false;
      throw error;
    }
  }

  #remember(id: string): void {
    this.#known.add(id);
    if (this.#known.size <= KNOWN_BATCHES) return;
    const [oldest] = this.#known;
    if (oldest !== undefined) this.#known.delete(oldest);
  }
}
