/** Cloudflare's KV, D1, R2 and Durable Objects with their delays, limits and failures. */
import { createHash } from 'node:crypto';
import type { ObjectBucket } from '../../../worker/blobs/parts.ts';
import type { SqlDatabase, SqlStatement } from '../../../worker/platform/d1-database.ts';
import type { DurableNamespace, KvNamespace } from '../../../worker/platform/store-calls.ts';
import { deferred } from './life-globals.ts';
import type { Faults } from './faults.ts';
import { type ObjectSql, openObjectSql } from '../../worker/platform/sqlite.ts';
import type { Random } from './random.ts';
import type { Life, VirtualTime } from './time.ts';

export interface Surroundings {
  time: VirtualTime;
  random: Random;
  faults: Faults;
  note: (actor: string, what: string) => void;
}

/** Longest that a call hangs, ms: longer than every timeout of the product for a store. */
const HANG_MS = 12_000;

/**
 * Runs `work` in the store, after the way there, and answers in the life after the way back. A life that ends
 * meanwhile gets no answer; what has arrived is done all the same.
 */
function call<T>(
  { time, random, faults }: Surroundings,
  life: Life,
  store: Life,
  how: {
    what: string;
    error: 'kv-error' | 'd1-error' | 'r2-error';
    after?: 'kv-error-after' | 'd1-error-after';
    slow?: 'kv-slow' | 'd1-slow';
    usualMs: number;
    failure: () => Error;
  },
  work: () => T,
): Promise<T> {
  const { promise, resolve, reject } = deferred<T>();
  const way = (): number => 1 + random.below(how.usualMs);
  const back = (answer: () => void): void => void time.after(life, way(), answer);
  const away = how.error === 'kv-error' && faults.on && time.now < faults.kvAwayUntil;
  if (away) faults.count('kv-away', how.what);
  const fails = away && random.chance(0.5);
  const slow = (away && !fails) || (how.slow !== undefined && faults.bites(how.slow, how.what));
  const hangs = (): number => (away ? HANG_MS / 2 + random.below(HANG_MS / 2) : random.below(HANG_MS));
  const before = slow && random.chance(0.5) ? hangs() : 0;
  const behind = slow && before === 0 ? hangs() : 0;
  time.after(store, way() + before, () => {
    if (fails || faults.bites(how.error, how.what)) return back(() => reject(how.failure()));
    let value: T;
    try {
      value = work();
    } catch (error) {
      return back(() => reject(error));
    }
    if (how.after !== undefined && faults.bites(how.after, how.what))
      return back(() => reject(how.failure()));
    time.after(life, way() + behind, () => resolve(value));
  });
  return promise;
}

const immortal = ({ time, random }: Surroundings, name: string): Life => time.life(name, random);

interface KvEntry {
  bytes: Uint8Array<ArrayBuffer> | null;
  at: number;
  until: number;
}

const KV_LIMITS = {
  valueBytes: 25 * 1024 * 1024,
  keyBytes: 512,
  writeEveryMs: 1_000,
  listed: 1_000,
  keys: 100,
  cacheTtlS: 30,
  expirationTtlS: 60,
};
/** KV promises nothing below it. */
const KV_STALE_MS = 60_000;

/** Workers KV: one truth, and a cache in each location that keeps what it once read, also "none". */
export class SimKv {
  readonly #around: Surroundings;
  readonly #life: Life;
  /** Newest last; a few, for those who read what was. */
  readonly #entries = new Map<string, KvEntry[]>();
  readonly #caches = new Map<
    string,
    Map<string, { bytes: Uint8Array<ArrayBuffer> | null; at: number; until: number }>
  >();
  /** Called after each write that changed something. */
  onWrite: (key: string, bytes: Uint8Array<ArrayBuffer> | null) => void = () => undefined;

  constructor(around: Surroundings) {
    this.#around = around;
    this.#life = immortal(around, 'kv');
  }

  /** What is there now, expired values left out. */
  keys(prefix = ''): string[] {
    return [...this.#entries.keys()]
      .filter((key) => key.startsWith(prefix) && this.read(key) !== null)
      .sort();
  }

  read(key: string): Uint8Array<ArrayBuffer> | null {
    return this.#at(key, this.#around.time.now);
  }

  /** Somebody else with the right to write. @returns false when KV takes no write of this key yet. */
  put(key: string, bytes: Uint8Array<ArrayBuffer>): boolean {
    try {
      this.#write(key, bytes);
      return true;
    } catch {
      return false;
    }
  }

  #at(key: string, moment: number): Uint8Array<ArrayBuffer> | null {
    const entry = this.#entries.get(key)?.findLast(({ at }) => at <= moment);
    return entry === undefined || entry.until <= moment ? null : entry.bytes;
  }

  #write(key: string, bytes: Uint8Array<ArrayBuffer> | null, until = Infinity): void {
    const { now } = this.#around.time;
    const entries = this.#entries.get(key) ?? [];
    const last = entries.at(-1);
    if (last !== undefined && now - last.at < KV_LIMITS.writeEveryMs)
      throw new Error('KV PUT failed: 429 Too Many Requests');
    // Nobody reads what is older than the longest staleness.
    while (entries.length > 1 && (entries[1] as KvEntry).at < now - KV_STALE_MS) entries.shift();
    entries.push({ bytes, at: now, until });
    this.#entries.set(key, entries);
    this.onWrite(key, bytes);
  }

  #cached(location: string, key: string, cacheTtl: number): Uint8Array<ArrayBuffer> | null {
    const { time, faults, random } = this.#around;
    const cache =
      this.#caches.get(location) ??
      new Map<string, { bytes: Uint8Array<ArrayBuffer> | null; at: number; until: number }>();
    this.#caches.set(location, cache);
    const held = cache.get(key);
    if (held !== undefined && time.now < Math.min(held.until, held.at + cacheTtl * 1_000)) return held.bytes;
    const stale = faults.bites('kv-stale', key) ? random.below(KV_STALE_MS - cacheTtl * 1_000 + 1) : 0;
    const bytes = this.#at(key, time.now - stale);
    cache.set(key, { bytes, at: time.now, until: time.now + cacheTtl * 1_000 });
    return bytes;
  }

  /** The binding of an isolate. */
  binding(life: Life, location: string): KvNamespace {
    const run = <T>(what: string, work: () => T, write: boolean): Promise<T> =>
      call(
        this.#around,
        life,
        this.#life,
        {
          what,
          error: 'kv-error',
          slow: 'kv-slow',
          usualMs: write ? 40 : 8,
          failure: () => new Error(`KV ${what.split(' ')[0]} failed: 500 Internal Server Error`),
          ...(write ? { after: 'kv-error-after' as const } : {}),
        },
        work,
      );
    const get = async (
      key: string | string[],
      { type, cacheTtl }: { type: 'text' | 'stream'; cacheTtl: number },
    ): Promise<unknown> => {
      const keys = typeof key === 'string' ? [key] : key;
      if (keys.length === 0 || keys.length > KV_LIMITS.keys) throw new Error('KV GET_BULK failed: 400');
      keys.forEach((one) => checkKey('GET', one));
      if (cacheTtl < KV_LIMITS.cacheTtlS)
        throw new Error(`KV GET failed: 400 Invalid cache_ttl of ${cacheTtl}.`);
      const found = await run(
        `GET ${keys.join(' ')}`,
        () => keys.map((one) => this.#cached(location, one, cacheTtl)),
        false,
      );
      const values = found.map((bytes) =>
        bytes === null ? null : type === 'text' ? new TextDecoder().decode(bytes) : streamOf(bytes),
      );
      return typeof key === 'string' ? values[0] : new Map(keys.map((one, at) => [one, values[at]]));
    };
    return {
      get: get as KvNamespace['get'],
      put: async (key, value, { expirationTtl } = {}) => {
        checkKey('PUT', key);
        if (expirationTtl !== undefined && expirationTtl < KV_LIMITS.expirationTtlS)
          throw new Error(`KV PUT failed: 400 Invalid expiration_ttl of ${expirationTtl}.`);
        const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value.slice();
        if (bytes.length > KV_LIMITS.valueBytes) throw new Error('KV PUT failed: 413');
        await run(
          `PUT ${key}`,
          () =>
            this.#write(
              key,
              bytes,
              expirationTtl === undefined ? Infinity : this.#around.time.now + expirationTtl * 1_000,
            ),
          true,
        );
      },
      delete: async (key) => {
        checkKey('DELETE', key);
        await run(`DELETE ${key}`, () => this.#write(key, null), true);
      },
      list: ({ prefix, cursor, limit = KV_LIMITS.listed }) =>
        run(
          `LIST ${prefix}`,
          () => {
            const names = this.keys(prefix).filter((name) => cursor === null || name > cursor);
            const keys = names.slice(0, limit).map((name) => ({ name }));
            return names.length <= limit
              ? { keys, list_complete: true }
              : { keys, list_complete: false, cursor: names[limit - 1] as string };
          },
          false,
        ),
    };
  }
}

function checkKey(method: string, key: string): void {
  const bytes = Buffer.byteLength(key);
  if (bytes === 0 || bytes > KV_LIMITS.keyBytes) throw new Error(`KV ${method} failed: 414`);
}

const streamOf = (bytes: Uint8Array<ArrayBuffer>): ReadableStream<Uint8Array> =>
  new ReadableStream({
    start(controller) {
      if (bytes.length > 0) controller.enqueue(bytes.slice());
      controller.close();
    },
  });

/** The Cache API: a cache in each location, which keeps texts for their `max-age` at most. */
export class SimLocationCaches {
  readonly #around: Surroundings;
  readonly #life: Life;
  readonly #held = new Map<string, { body: string; headers: [string, string][]; until: number }>();

  constructor(around: Surroundings) {
    this.#around = around;
    this.#life = immortal(around, 'location caches');
  }

  binding(life: Life, location: string): Life['caches'] {
    const { time, random } = this.#around;
    const call = async <T>(work: () => T): Promise<T> => {
      const { promise, resolve } = deferred<T>();
      time.after(this.#life, 1 + random.below(3), () => {
        const answer = work();
        time.after(life, 1 + random.below(3), () => resolve(answer));
      });
      return promise;
    };
    return {
      open: async (name) => {
        const keyOf = (url: string): string => `${location} ${name} ${url}`;
        return {
          match: async (url) => {
            const found = await call(() => {
              // It promises to keep nothing.
              if (random.chance(0.05)) this.#held.delete(keyOf(url));
              const held = this.#held.get(keyOf(url));
              return held !== undefined && time.now < held.until ? held : undefined;
            });
            return found === undefined ? undefined : new Response(found.body, { headers: found.headers });
          },
          put: async (url, response) => {
            const maxAge = Number(/max-age=(\d+)/.exec(response.headers.get('cache-control') ?? '')?.[1]);
            const [body, headers] = [await response.text(), [...response.headers] as [string, string][]];
            await call(() => {
              this.#held.set(keyOf(url), { body, headers, until: time.now + maxAge * 1_000 });
            });
          },
          delete: (url) => call(() => this.#held.delete(keyOf(url))),
        };
      },
    };
  }
}

/** D1 over SQLite: each statement is a transaction of its own, each batch one. */
export class SimDatabase {
  /** Without a delay or a failure. */
  readonly truth: SqlDatabase;
  readonly #around: Surroundings;
  readonly #life: Life;
  /** Called after each call that was done, with the texts of its statements. */
  onCommit: (texts: readonly string[]) => void = () => undefined;

  constructor(around: Surroundings, truth: SqlDatabase) {
    this.#around = around;
    this.#life = immortal(around, 'd1');
    this.truth = truth;
  }

  /** SQLite's answers come from this thread: `work` returns a promise that is settled when it is made. */
  #run<T>(life: Life, what: string, texts: readonly string[], work: () => Promise<T>): Promise<T> {
    return call(
      this.#around,
      life,
      this.#life,
      {
        what: what.slice(0, 60),
        error: 'd1-error',
        ...(/^(batch|INSERT|UPDATE|DELETE)/.test(what) ? { after: 'd1-error-after' as const } : {}),
        slow: 'd1-slow',
        usualMs: 10,
        failure: () => new Error('D1_ERROR: Network connection lost.'),
      },
      () => {
        const done = work();
        done.then(
          () => this.onCommit(texts),
          () => undefined,
        );
        return done;
      },
    ).then((answer) => answer);
  }

  binding(life: Life): SqlDatabase {
    const run: RunSql = (what, texts, work) => this.#run(life, what, texts, work);
    return {
      prepare: (sql) => new SimStatement(this.truth.prepare(sql), sql, run),
      batch: (statements) => {
        const given = statements as SimStatement[];
        return run(
          `batch of ${given.length}`,
          given.map(({ sql }) => sql),
          () => this.truth.batch(given.map(({ inner }) => inner)),
        );
      },
    };
  }
}

type RunSql = <T>(what: string, texts: readonly string[], work: () => Promise<T>) => Promise<T>;

class SimStatement implements SqlStatement {
  readonly #run: RunSql;

  constructor(
    readonly inner: SqlStatement,
    readonly sql: string,
    run: RunSql,
  ) {
    this.#run = run;
  }

  bind(...values: (string | number | null)[]): SqlStatement {
    return new SimStatement(this.inner.bind(...values), this.sql, this.#run);
  }
  first<T>(): Promise<T | null> {
    return this.#run(this.sql, [this.sql], () => this.inner.first<T>());
  }
  all<T>(): Promise<{ results: T[] }> {
    return this.#run(this.sql, [this.sql], () => this.inner.all<T>());
  }
  run(): Promise<unknown> {
    return this.#run(this.sql, [this.sql], () => this.inner.run());
  }
}

/** R2: no cache, no stale reads. */
export class SimBucket {
  readonly objects = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly #around: Surroundings;
  readonly #life: Life;
  readonly #writtenAt = new Map<string, number>();

  constructor(around: Surroundings) {
    this.#around = around;
    this.#life = immortal(around, 'r2');
  }

  binding(life: Life): ObjectBucket {
    const run = <T>(what: string, work: () => T): Promise<T> =>
      call(
        this.#around,
        life,
        this.#life,
        {
          what,
          error: 'r2-error',
          usualMs: 30,
          failure: () => new Error(`${what}: We encountered an internal error. (10001)`),
        },
        work,
      );
    return {
      get: (key) =>
        run('get', () => {
          const value = this.objects.get(key);
          return value === undefined
            ? null
            : { body: streamOf(value), text: async () => new TextDecoder().decode(value) };
        }),
      put: async (key, value, options) => {
        const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value.slice();
        if (options !== undefined && createHash('sha256').update(bytes).digest('hex') !== options.sha256)
          throw new Error('put: The SHA-256 checksum you specified did not match what we received. (10037)');
        await run('put', () => {
          const { now } = this.#around.time;
          if (now - (this.#writtenAt.get(key) ?? -Infinity) < 1_000)
            throw new Error('put: Reduce your concurrent request rate for the same object. (10058)');
          this.#writtenAt.set(key, now);
          this.objects.set(key, bytes);
        });
      },
      delete: async (keys) => {
        await run('delete', () => {
          for (const key of typeof keys === 'string' ? [keys] : keys) this.objects.delete(key);
        });
      },
    };
  }
}

/** A call that a Durable Object has answered. */
export interface ObjectCall {
  id: string;
  body: string;
  text: string;
  at: number;
}

/** What a Durable Object's class needs. */
export type ObjectClass = new (
  context: { storage: unknown; blockConcurrencyWhile?: unknown },
  env: unknown,
) => {
  fetch(request: Request): Promise<Response>;
  alarm?(): Promise<void>;
};

/** After this a write is on disk, ms, at most. */
const DISK_MS = 5;
/** Cloudflare repeats a failed alarm after 2 s, 4 s …, six times. */
const ALARM_TRIES = 6;

/**
 * Durable Objects of one class. Each runs in one place; calls wait while a storage operation runs (input gate),
 * answers wait until what was written is on disk (output gate). An object that ends loses its memory and what was
 * not yet on disk.
 */
export class SimObjects {
  readonly #around: Surroundings;
  readonly #name: string;
  readonly #load: (life: Life) => { make: ObjectClass; env: unknown };
  readonly #objects = new Map<string, SimObject>();
  /** Called when an answer leaves an object, and when one begins anew. */
  onAnswer: (call: ObjectCall) => void = () => undefined;
  onRestart: (id: string) => void = () => undefined;

  constructor(around: Surroundings, name: string, load: (life: Life) => { make: ObjectClass; env: unknown }) {
    this.#around = around;
    this.#name = name;
    this.#load = load;
  }

  binding(life: Life): DurableNamespace {
    return {
      idFromName: (name) => name,
      get: (id) => ({ fetch: (_url, init) => this.#fetch(life, id as string, String(init?.body ?? '')) }),
    };
  }

  /** What is on disk, by object. */
  stored(): Map<string, ReadonlyMap<string, unknown>> {
    return new Map([...this.#objects].map(([id, object]) => [id, object.disk]));
  }

  /** What the query finds in each object that has been called. */
  select<T>(query: string): T[] {
    // Rows are those of the test's own statement.
    return [...this.#objects.values()].flatMap((object) => object.select(query) as T[]);
  }

  /** Rows that were inserted into an object's tables, by object. */
  inserted(): Map<string, number> {
    return new Map([...this.#objects].map(([id, object]) => [id, object.inserted]));
  }

  #object(id: string): SimObject {
    let object = this.#objects.get(id);
    if (object === undefined) {
      object = new SimObject(this.#around, `${this.#name}/${id}`, this.#load, {
        answered: (body, text) => this.onAnswer({ id, body, text, at: this.#around.time.now }),
        restarted: () => this.onRestart(id),
      });
      this.#objects.set(id, object);
    }
    return object;
  }

  #fetch(life: Life, id: string, body: string): Promise<Response> {
    const { time, random, faults } = this.#around;
    const { promise, resolve, reject } = deferred<Response>();
    const way = (): number => 1 + random.below(10);
    const object = this.#object(id);
    time.after(object.host, way(), () => {
      if (faults.bites('object-evicted', object.host.name)) object.restart();
      const fail = (): void =>
        void time.after(life, way(), () => reject(new Error('Network connection lost.')));
      const restarts = faults.bites('object-restarted', object.host.name);
      // It has done everything, and nobody hears of it.
      const answersFirst = restarts && random.chance(0.5);
      object.ask(
        body,
        (response) => {
          if (!answersFirst) return time.after(life, way(), () => resolve(response));
          object.restart();
          fail();
        },
        fail,
      );
      if (restarts && !answersFirst) time.after(object.host, random.below(20), () => object.restart());
    });
    return promise;
  }
}

/** A statement that changes tables. */
type SqlWrite = readonly [query: string, bindings: readonly (string | number | null)[]];

class SimObject {
  /** Survives restarts. */
  readonly host: Life;
  readonly disk = new Map<string, unknown>();
  readonly #around: Surroundings;
  readonly #load: (life: Life) => { make: ObjectClass; env: unknown };
  #life: Life;
  #instance: InstanceType<ObjectClass> | null = null;
  /** As its code sees it; what is in it and not on disk is lost with its life. */
  #memory = new Map<string, unknown>();
  /** Its tables, made anew of what is on disk when it restarts. */
  #sql: ObjectSql | null = null;
  readonly #journal: SqlWrite[] = [];
  #alarm: number | null = null;
  #lives = 0;
  #gates = 0;
  #waiting: (() => void)[] = [];
  /** Writes that are on their way to the disk. */
  #unwritten = 0;
  /** When the last of them is there. */
  #diskAt = 0;
  #held: (() => void)[] = [];
  #failures = new Set<() => void>();
  readonly #told: { answered: (body: string, text: string) => void; restarted: () => void };

  constructor(
    around: Surroundings,
    name: string,
    load: (life: Life) => { make: ObjectClass; env: unknown },
    told: { answered: (body: string, text: string) => void; restarted: () => void },
  ) {
    this.#around = around;
    this.#load = load;
    this.#told = told;
    this.host = immortal(around, name);
    this.#life = this.host;
  }

  restart(): void {
    this.#told.restarted();
    this.#life.dead = this.#life !== this.host;
    this.#instance = null;
    this.#memory = new Map(structuredClone([...this.disk]));
    this.#sql = null;
    this.#gates = 0;
    this.#unwritten = 0;
    this.#held = [];
    const waiting = this.#waiting.splice(0);
    for (const fail of this.#failures) fail();
    this.#failures.clear();
    for (const go of waiting) go();
  }

  #made(life: Life): InstanceType<ObjectClass> {
    const { make, env } = this.#load(life);
    return new make({ storage: this.#storage(life) }, env);
  }

  #living(): Life {
    if (this.#life !== this.host && !this.#life.dead) return this.#life;
    this.#lives += 1;
    const name = `${this.host.name}#${this.#lives}`;
    this.#life = this.#around.time.life(name, this.#around.random.fork(name), {
      log: (line) => this.#around.note(name, line.slice(0, 300)),
    });
    return this.#life;
  }

  ask(body: string, answer: (response: Response) => void, fail: () => void): void {
    this.#failures.add(fail);
    const settle = (): boolean => this.#failures.delete(fail);
    this.#enter((instance, life) => {
      const request = new Request('https://object.invalid/', { method: 'POST', body });
      instance.fetch(request).then(
        async (response) => {
          const text = await response.text();
          if (life.dead) return;
          // What it has done it has done, whether or not anybody hears of it.
          this.#told.answered(body, text);
          this.#leave(() => {
            if (settle()) answer(new Response(text, { status: response.status }));
          });
        },
        () => {
          if (!life.dead && settle()) fail();
        },
      );
    });
  }

  /** Input gate. @param work is done in the object's life. */
  #enter(work: (instance: InstanceType<ObjectClass>, life: Life) => void): void {
    const { time } = this.#around;
    const go = (): void => {
      const life = this.#living();
      time.after(life, 0, () => {
        if (this.#gates > 0) this.#waiting.push(go);
        else work((this.#instance ??= this.#made(life)), life);
      });
    };
    if (this.#gates === 0) go();
    else this.#waiting.push(go);
  }

  /** Output gate. */
  #leave(go: () => void): void {
    if (this.#unwritten === 0) go();
    else this.#held.push(go);
  }

  #gate<T>(life: Life, work: () => T): Promise<T> {
    const { time, random } = this.#around;
    this.#gates += 1;
    const { promise, resolve, reject } = deferred<T>();
    time.after(life, random.below(2), () => {
      try {
        resolve(work());
      } catch (error) {
        reject(error);
      }
      // After what continues because of it.
      time.after(life, 0, () => {
        this.#gates -= 1;
        while (this.#gates === 0 && this.#waiting.length > 0) this.#waiting.shift()?.();
      });
    });
    return promise;
  }

  /** To the disk a little later; {@link restart} before that loses it. */
  #write(life: Life, apply: (to: Map<string, unknown>) => void): void {
    const { time, random } = this.#around;
    apply(this.#memory);
    this.#unwritten += 1;
    // In its order: none overtakes another.
    this.#diskAt = Math.max(this.#diskAt, time.now + random.below(DISK_MS));
    time.after(life, this.#diskAt - time.now, () => {
      apply(this.disk);
      this.#unwritten -= 1;
      if (this.#unwritten === 0) for (const go of this.#held.splice(0)) go();
    });
  }

  get inserted(): number {
    return this.#journal.filter(([query]) => /^\s*(INSERT|REPLACE)\b/i.test(query)).length;
  }

  /** Of the disk. */
  select(query: string): Record<string, unknown>[] {
    return this.#journal.length === 0 ? [] : this.#tables().exec(query).toArray();
  }

  #tables(): ObjectSql {
    if (this.#sql === null) {
      this.#sql = openObjectSql();
      for (const [query, bindings] of this.#journal) this.#sql.exec(query, ...bindings);
    }
    return this.#sql;
  }

  /** SQLite's part of the storage: what is written outside of a transaction is one of its own. */
  #sqlOf(life: Life) {
    let open: SqlWrite[] | null = null;
    const write = (writes: readonly SqlWrite[]): void => {
      if (writes.length === 0) return;
      const { disk } = this;
      this.#write(life, (to) => void (to === disk && this.#journal.push(...writes)));
    };
    return {
      sql: {
        exec: (query: string, ...bindings: (string | number | null)[]) => {
          const answer = this.#tables().exec(query, ...bindings);
          if (!/^\s*(SELECT|PRAGMA|WITH)\b/i.test(query)) {
            if (open === null) write([[query, bindings]]);
            else open.push([query, bindings]);
          }
          return answer;
        },
      },
      transactionSync: <T>(work: () => T): T => {
        const writes: SqlWrite[] = [];
        open = writes;
        try {
          const answer = this.#tables().transaction(work);
          write(writes);
          return answer;
        } finally {
          open = null;
        }
      },
    };
  }

  #setAlarm(at: number, tries: number): void {
    const { time, random, faults } = this.#around;
    this.#alarm = at;
    const late = faults.bites('alarm-late', this.host.name) ? random.below(60_000) : 0;
    time.after(this.host, Math.max(0, at - time.now) + late, () => {
      // Set anew or deleted meanwhile.
      if (this.#alarm !== at) return;
      this.#alarm = null;
      this.#fire(tries);
      if (faults.bites('alarm-twice', this.host.name)) this.#fire(ALARM_TRIES);
    });
  }

  #fire(tries: number): void {
    const { time } = this.#around;
    this.#enter((instance, life) => {
      const again = (): void => {
        if (tries < ALARM_TRIES && this.#alarm === null)
          this.#setAlarm(time.now + 2_000 * 2 ** tries, tries + 1);
      };
      let ended = false;
      const end = (): void => {
        if (ended) return;
        ended = true;
        this.#failures.delete(end);
        again();
      };
      this.#failures.add(end);
      (instance.alarm?.() ?? Promise.resolve()).then(
        () => {
          if (life.dead) return;
          ended = true;
          this.#failures.delete(end);
        },
        () => end(),
      );
    });
  }

  #storage(life: Life) {
    const copy = <T>(value: T): T => (typeof value === 'object' ? structuredClone(value) : value);
    const keysOf = (given: string | string[]): string[] => (typeof given === 'string' ? [given] : given);
    return {
      ...this.#sqlOf(life),
      get: (key: string) => this.#gate(life, () => copy(this.#memory.get(key))),
      put: async (key: string, value: unknown) => {
        const kept = copy(value);
        this.#write(life, (to) => void to.set(key, kept));
      },
      delete: async (given: string | string[]) => {
        const keys = keysOf(given);
        const known = keys.filter((key) => this.#memory.has(key)).length;
        this.#write(life, (to) => keys.forEach((key) => to.delete(key)));
        return typeof given === 'string' ? known > 0 : known;
      },
      deleteAll: async () => {
        this.#sql = openObjectSql();
        this.#write(life, (to) => {
          to.clear();
          if (to === this.disk) this.#journal.splice(0);
        });
      },
      list: ({
        prefix,
        limit = Infinity,
        reverse = false,
      }: {
        prefix: string;
        limit?: number;
        reverse?: boolean;
      }) =>
        this.#gate(life, () => {
          const keys = [...this.#memory.keys()].filter((key) => key.startsWith(prefix)).sort();
          if (reverse) keys.reverse();
          return new Map(keys.slice(0, limit).map((key) => [key, copy(this.#memory.get(key))]));
        }),
      sync: () => {
        const { promise, resolve } = deferred<undefined>();
        this.#leave(() => this.#around.time.after(life, 0, () => resolve(undefined)));
        return promise;
      },
      getAlarm: () => this.#gate(life, () => this.#alarm),
      setAlarm: async (at: number) => this.#setAlarm(at, 0),
    };
  }
}
