/** The Durable Object that keeps what isolates have counted until it is in D1, and its client. */
import { z } from 'zod';
import { logLine, reasonOf } from '../log.ts';
import { createD1Usage } from '../metering/d1-usage.ts';
import { USAGE_BATCH_MEMORY_MS } from '../metering/limits.ts';
import type { UsageLedger, UsageRow } from '../metering/ports.ts';
import { guardDatabase, type SqlDatabase } from '../platform/d1-database.ts';
import {
  askObject,
  flushMs,
  type DurableNamespace,
  type ObjectSql,
  type SqlValue,
} from '../platform/store-calls.ts';
import {
  FULL_WRITE_ROWS,
  GATHERED_ROW_BYTES,
  GATHERER_COMMIT_MS,
  GATHERER_QUIET_MS,
  GATHERER_RETRY_MS,
  GATHERER_SHARDS,
  GATHERER_SPREAD_MS,
  GATHERER_WRITE_MS,
  SENDER_KEPT_MS,
  WRITTEN_BYTES,
  WRITTEN_ROWS,
} from './limits.ts';
import type { CountBatch, Gatherers } from './ports.ts';
import { sumUsage } from './sum-usage.ts';

const count = z.int().min(0);
const Usage: z.ZodType<UsageRow> = z.object({
  hour: count,
  tenant: z.string(),
  keyId: z.string(),
  name: z.string(),
  version: count,
  requests: count,
  errors: count,
  promptTokens: count,
  completionTokens: count,
});
const GathererCall = z.discriminatedUnion('call', [
  z.strictObject({
    call: z.literal('add'),
    sender: z.string(),
    number: z.int().min(1),
    usage: z.array(Usage),
  }),
  z.strictObject({ call: z.literal('write') }),
]);
type GathererCall = z.infer<typeof GathererCall>;

/** Gatherers in Durable Objects (`Gatherer`). */
export function createDoGatherers(params: {
  namespace: DurableNamespace;
  timeoutMs: number;
  writeTimeoutMs: number;
}): Gatherers {
  const { namespace, timeoutMs, writeTimeoutMs } = params;
  const ask = (shard: number, call: GathererCall, ms: number): Promise<void> =>
    askObject({
      ...{ namespace, name: `shard-${shard}`, what: 'gatherer', call, timeoutMs: ms },
      parse: () => undefined,
    });
  return {
    add: (shard, batch) => ask(shard, { call: 'add', ...batch }, timeoutMs),
    async writeOut() {
      const shards = Array.from({ length: GATHERER_SHARDS }, (_, shard) => shard);
      await Promise.all(shards.map((shard) => ask(shard, { call: 'write' }, writeTimeoutMs)));
    },
  };
}

/** The part of a Durable Object's storage that it uses. */
export interface GathererStorage {
  readonly sql: ObjectSql;
  transactionSync<T>(work: () => T): T;
  /** Resolves once everything written before is on disk. */
  sync(): Promise<void>;
  getAlarm(): Promise<number | null>;
  setAlarm(at: number): Promise<void>;
}

/** `batches` has a row a commit, `senders` the last batch of each isolate that is in D1, `writing` what is on its way there. */
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS batches (
    place INTEGER PRIMARY KEY, senders TEXT NOT NULL, usage TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS senders (id TEXT PRIMARY KEY, number INTEGER NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS writing (id TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS pause (one INTEGER PRIMARY KEY, until INTEGER NOT NULL);
`;

type Sent = [sender: string, number: number];

interface Waiting {
  batch: CountBatch;
  done: Promise<void>;
  settle: (error?: unknown) => void;
}

const waitingFor = (batch: CountBatch): Waiting => {
  let settle: Waiting['settle'] = () => undefined;
  const done = new Promise<void>((resolve, reject) => {
    settle = (error) => (error === undefined ? resolve() : reject(error));
  });
  return { batch, done, settle };
};

/**
 * Keeps what isolates have counted of some tenants, and writes it to D1, summed up, about once a minute. A batch is
 * acknowledged once it is on disk, and deleted once it is in D1; a write that was cut off is repeated under the same id,
 * which D1 takes once. So a restart forgets nothing but what was not acknowledged, which isolates send again.
 */
export class Gatherer {
  readonly #storage: GathererStorage;
  readonly #usage: Pick<UsageLedger, 'add'>;
  readonly #now: () => number;
  readonly #sleep: (ms: number) => Promise<void>;
  readonly #ms: (usual: number) => number;
  /** The last batch of each isolate that is on disk; null = not read yet. */
  #known: Map<string, number> | null = null;
  /** Not on disk yet. */
  readonly #waiting = new Map<string, Waiting>();
  #committing = false;
  #committedAt = -Infinity;
  #alarmed = false;
  #writing: Promise<unknown> = Promise.resolve();

  /** @param parts replaced by tests. */
  constructor(
    context: { storage: GathererStorage },
    env: { DB: SqlDatabase; FLUSH_MS?: string },
    parts?: {
      now: () => number;
      sleep: (ms: number) => Promise<void>;
      usage: Pick<UsageLedger, 'add'>;
    },
  ) {
    this.#storage = context.storage;
    this.#usage = parts?.usage ?? createD1Usage(guardDatabase(env.DB), USAGE_BATCH_MEMORY_MS);
    this.#now = parts?.now ?? Date.now;
    this.#sleep = parts?.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
    this.#ms = (usual) => flushMs(env, usual);
  }

  async fetch(request: Request): Promise<Response> {
    const call = GathererCall.parse(await request.json());
    if (call.call === 'add') {
      await this.#take(call);
      await this.#wake();
      return Response.json(null);
    }
    try {
      await this.#writeOut();
      return Response.json(null);
    } catch (error) {
      logLine('usage_not_written', { reason: reasonOf(error) });
      return new Response(null, { status: 503 });
    }
  }

  async alarm(): Promise<void> {
    this.#alarmed = false;
    try {
      await this.#writeOut();
    } catch (error) {
      logLine('usage_not_written', { reason: reasonOf(error) });
      return this.#wake(this.#ms(GATHERER_RETRY_MS));
    }
    if (this.#first('SELECT place FROM batches LIMIT 1') !== null) await this.#wake();
  }

  /** Resolves once it is on disk. */
  async #take(batch: CountBatch): Promise<void> {
    const { sender, number } = batch;
    // Its answer was lost.
    if (number <= (this.#open().get(sender) ?? 0)) return;
    const id = `${sender} ${number}`;
    const waiting = this.#waiting.get(id) ?? waitingFor(batch);
    this.#waiting.set(id, waiting);
    void this.#commitAll();
    await waiting.done;
  }

  /** The first of several at once, the others together a moment later. */
  async #commitAll(): Promise<void> {
    if (this.#committing) return;
    this.#committing = true;
    while (this.#waiting.size > 0) {
      const pause = this.#committedAt + this.#ms(GATHERER_COMMIT_MS) - this.#now();
      if (pause > 0) await this.#sleep(pause);
      this.#committedAt = this.#now();
      const all = [...this.#waiting.values()];
      this.#waiting.clear();
      try {
        this.#commit(all.map(({ batch }) => batch));
        for (const { settle } of all) settle();
      } catch (error) {
        for (const { settle } of all) settle(error);
      }
    }
    this.#committing = false;
  }

  /** Without a pause. The runtime keeps answers back until what was written before them is on disk. */
  #commit(batches: readonly CountBatch[]): void {
    const known = this.#open();
    const rows: { senders: Sent[]; usage: UsageRow[]; bytes: number }[] = [];
    for (const { sender, number, usage } of batches) {
      const bytes = JSON.stringify(usage).length;
      let row = rows.at(-1);
      if (row === undefined || row.bytes + bytes > GATHERED_ROW_BYTES)
        rows.push((row = { senders: [], usage: [], bytes: 0 }));
      row.senders.push([sender, number]);
      row.usage.push(...usage);
      row.bytes += bytes;
    }
    this.#storage.transactionSync(() => {
      for (const { senders, usage } of rows)
        this.#run(
          'INSERT INTO batches (senders, usage) VALUES (?, ?)',
          JSON.stringify(senders),
          JSON.stringify(sumUsage(usage)),
        );
    });
    for (const { sender, number } of batches) known.set(sender, number);
  }

  /** Everything that is on disk now, after what is being written already. */
  #writeOut(): Promise<void> {
    const written = this.#writing.then(() => this.#writeAll());
    this.#writing = written.catch(() => undefined);
    return written;
  }

  async #writeAll(): Promise<void> {
    this.#open();
    for (let part = this.#nextPart(); part !== null; part = this.#nextPart()) {
      const { id, until } = part;
      // D1 must not have what this object does not know to be on its way.
      await this.#storage.sync();
      const batches = this.#all<{ senders: string; usage: string }>(
        'SELECT senders, usage FROM batches WHERE place <= ? ORDER BY place',
        until,
      );
      const rows = sumUsage(batches.flatMap(({ usage }) => JSON.parse(usage) as UsageRow[]));
      await this.#usage.add({ id, at: this.#now(), rows });
      const senders = new Map(batches.flatMap((batch) => JSON.parse(batch.senders) as Sent[]));
      this.#forget(until, senders, rows.length);
    }
  }

  /** @returns what is being written, or is written next, under an id that stays; null = nothing is left. */
  #nextPart(): { id: string; until: number } | null {
    const begun = this.#first<{ id: string; until: number }>('SELECT id, until FROM writing');
    if (begun !== null) return begun;
    const found = this.#all<{ place: number; bytes: number }>(
      'SELECT place, length(usage) AS bytes FROM batches ORDER BY place LIMIT ?',
      WRITTEN_ROWS,
    );
    let bytes = 0;
    const last = found.filter((row) => (bytes += row.bytes) - row.bytes < WRITTEN_BYTES).at(-1);
    if (last === undefined) return null;
    const part = { id: crypto.randomUUID(), until: last.place };
    this.#run('INSERT INTO writing (id, until) VALUES (?, ?)', part.id, part.until);
    return part;
  }

  /** Deletes what D1 has now, and remembers each isolate's last batch. */
  #forget(until: number, senders: ReadonlyMap<string, number>, rows: number): void {
    const now = this.#now();
    const known = this.#open();
    const old = this.#all<{ id: string; number: number }>(
      'SELECT id, number FROM senders WHERE at < ?',
      now - SENDER_KEPT_MS,
    ).filter(({ id, number }) => !senders.has(id) && known.get(id) === number);
    const full = this.#ms(GATHERER_WRITE_MS) * Math.min(1, rows / FULL_WRITE_ROWS);
    const pause = Math.round(full) + this.#spread();
    this.#storage.transactionSync(() => {
      for (const [id, number] of senders)
        this.#run('INSERT OR REPLACE INTO senders (id, number, at) VALUES (?, ?, ?)', id, number, now);
      this.#run('DELETE FROM batches WHERE place <= ?', until);
      this.#run('DELETE FROM writing');
      this.#run('INSERT OR REPLACE INTO pause (one, until) VALUES (1, ?)', now + pause);
      for (const { id } of old) this.#run('DELETE FROM senders WHERE id = ?', id);
    });
    for (const { id } of old) known.delete(id);
  }

  /** @param pause ms; without one, until the next write is due. */
  async #wake(pause?: number): Promise<void> {
    if (this.#alarmed) return;
    const now = this.#now();
    const due = this.#first<{ until: number }>('SELECT until FROM pause')?.until ?? 0;
    const quiet = this.#ms(GATHERER_QUIET_MS) + this.#spread();
    const at = pause === undefined ? Math.max(now + quiet, due) : now + pause;
    if ((await this.#storage.getAlarm()) === null) await this.#storage.setAlarm(at);
    this.#alarmed = true;
  }

  #spread(): number {
    return Math.floor(Math.random() * this.#ms(GATHERER_SPREAD_MS));
  }

  #open(): Map<string, number> {
    if (this.#known !== null) return this.#known;
    this.#storage.sql.exec(SCHEMA);
    const written = this.#all<{ id: string; number: number }>('SELECT id, number FROM senders');
    const kept = this.#all<{ senders: string }>('SELECT senders FROM batches ORDER BY place');
    this.#known = new Map([
      ...written.map(({ id, number }): Sent => [id, number]),
      ...kept.flatMap(({ senders }) => JSON.parse(senders) as Sent[]),
    ]);
    return this.#known;
  }

  // The rows are those of this file's own statements.
  #all<T>(query: string, ...bindings: SqlValue[]): T[] {
    return this.#storage.sql.exec(query, ...bindings).toArray() as T[];
  }

  #first<T>(query: string, ...bindings: SqlValue[]): T | null {
    return this.#all<T>(query, ...bindings)[0] ?? null;
  }

  #run(query: string, ...bindings: SqlValue[]): void {
    this.#storage.sql.exec(query, ...bindings);
  }
}
