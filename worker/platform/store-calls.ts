/** How stores are called: the used parts of KV and Durable Objects, with timeouts, paced writes and batches. */
import { StoreUnavailable, type StoreName, type KeyListing } from './ports.ts';

const LATE = Symbol('late');

/** @param onLate called when `work` takes longer than `ms`; default: throws. The work continues unobserved. */
export async function withTimeout<T, Late = never>(
  work: Promise<T>,
  ms: number,
  onLate: () => Late = () => {
    throw new Error(`no answer within ${ms} ms`);
  },
): Promise<T | Late> {
  let end: () => void = () => undefined;
  const late = new Promise<typeof LATE>((resolve) => (end = () => resolve(LATE)));
  const timer = setTimeout(end, ms);
  try {
    const first = await Promise.race([work, late]);
    return first === LATE ? onLate() : first;
  } finally {
    clearTimeout(timer);
  }
}

export interface WritePacing {
  pauseMs: number;
  tries: number;
  sleep: (ms: number) => Promise<void>;
}

/** KV's and R2's messages for "the same key was written less than a second ago" (R2's code is 10058). */
const isRateLimited = (error: unknown): boolean =>
  error instanceof Error && /429|too many|10058/i.test(error.message);

/**
 * Writes, and retries after a pause if the key was written within the last second.
 * @throws StoreUnavailable
 */
export async function writePaced(
  store: StoreName,
  pacing: WritePacing,
  write: () => Promise<unknown>,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await write();
      return;
    } catch (error) {
      if (attempt >= pacing.tries || !isRateLimited(error)) throw new StoreUnavailable(store, error);
      await pacing.sleep(pacing.pauseMs);
    }
  }
}

/** Retries with growing pauses: multiples of `pauseMs`. @returns null once it is written, else the last failure. */
export async function writeInTries(
  write: () => Promise<void>,
  { tries, pauseMs, sleep }: WritePacing,
): Promise<{ error: unknown } | null> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await write();
      return null;
    } catch (error) {
      if (attempt >= tries) return { error };
      await sleep(pauseMs * attempt);
    }
  }
}

/** A flush that has not ended by then was cut off with its request. */
export const FLUSH_ENDS_MS = 30_000;

interface BatchedWrites<Batch> {
  /** Sent with the next flush. */
  add(batch: Batch): void;
  /** Starts a flush unless one is running. @param keepAlive lets it continue after the response. */
  flushSoon(keepAlive: (work: Promise<unknown>) => void): void;
}

/** How long what was noted waits, ms. @param env tests shorten it there. @param usual its own time. */
export const flushMs = (env: { FLUSH_MS?: string | undefined }, usual: number): number =>
  Math.min(usual, Number(env.FLUSH_MS ?? usual));

/**
 * Sends an isolate's records in batches, during and after responses: one flush for everything within `flushMs`.
 * A batch is retried unchanged, so that with its own id it counts once. Unwritten records are lost if the
 * isolate dies; refused ones are kept and sent with the next flush.
 * @param params.close adds the records so far; called when a flush starts sending.
 * @param params.lane batches of one lane are sent in order, and not after a refused one.
 */
export function createBatchedWrites<Batch>(params: {
  close: () => void;
  write: (batch: Batch) => Promise<void>;
  lane: (batch: Batch) => string;
  size: (batch: Batch) => number;
  /** Of all that waits, in `size`. */
  maxUnsent: number;
  onRefused: (batch: Batch, reason: string) => void;
  onLost: (batch: Batch) => void;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  flushMs: number;
  tries: number;
}): BatchedWrites<Batch> {
  const { close, write, lane, size, maxUnsent, onRefused, onLost, now, sleep, flushMs, tries } = params;
  const unsent: Batch[] = [];
  /** Start of the running flush, unix ms; -Infinity = none. */
  let flushing = -Infinity;

  async function send(batch: Batch): Promise<boolean> {
    const failed = await writeInTries(() => write(batch), { tries, pauseMs: flushMs, sleep });
    if (failed === null) return true;
    onRefused(batch, failed.error instanceof Error ? failed.error.message : 'unknown error');
    return false;
  }

  async function sendLane(batches: readonly Batch[]): Promise<void> {
    for (const batch of batches) {
      // A batch that another flush is sending is written once, whoever is second, because of its id.
      if (!(await send(batch))) return;
      const at = unsent.indexOf(batch);
      if (at !== -1) unsent.splice(at, 1);
    }
  }

  async function flush(): Promise<void> {
    await sleep(flushMs);
    // Later records belong to the next flush.
    flushing = -Infinity;
    close();
    const lanes = new Map<string, Batch[]>();
    for (const batch of unsent) {
      const name = lane(batch);
      lanes.set(name, [...(lanes.get(name) ?? []), batch]);
    }
    await Promise.all([...lanes.values()].map(sendLane));
  }

  return {
    add(batch) {
      unsent.push(batch);
      let waiting = unsent.reduce((sum, one) => sum + size(one), 0);
      while (waiting > maxUnsent) {
        const lost = unsent.shift();
        if (lost === undefined) return;
        waiting -= size(lost);
        onLost(lost);
      }
    },
    flushSoon(keepAlive) {
      if (now() - flushing < FLUSH_ENDS_MS) return;
      flushing = now();
      keepAlive(flush());
    },
  };
}

/** The part of Workers KV's interface that graft uses; `KVNamespace` and the tests' fake implement it. */
export interface KvNamespace {
  get(key: string, options: { type: 'text'; cacheTtl: number }): Promise<string | null>;
  get(key: string, options: { type: 'stream'; cacheTtl: number }): Promise<ReadableStream<Uint8Array> | null>;
  /** One read for several keys, at most 100. */
  get(keys: string[], options: { type: 'text'; cacheTtl: number }): Promise<Map<string, string | null>>;
  /** @param options.expirationTtl lifetime in seconds, at least 60; default: forever. */
  put(
    key: string,
    value: string | Uint8Array<ArrayBuffer>,
    options?: { expirationTtl?: number },
  ): Promise<void>;
  delete(key: string): Promise<void>;
  /** A page of at most `limit` keys (default and maximum 1,000), in byte order. */
  list(options: { prefix: string; cursor: string | null; limit?: number }): Promise<{
    keys: { name: string }[];
    list_complete: boolean;
    cursor?: string;
  }>;
}

/**
 * Writes, and retries after a pause if the key was written within the last second.
 * @throws StoreUnavailable
 */
export const putPaced = (
  kv: KvNamespace,
  key: string,
  value: string | Uint8Array<ArrayBuffer>,
  pacing: WritePacing,
  expirationTtl?: number,
): Promise<void> =>
  writePaced('KV', pacing, () => kv.put(key, value, expirationTtl === undefined ? {} : { expirationTtl }));

/** Deletes likewise; a deletion is a write. @throws StoreUnavailable */
export const deletePaced = (kv: KvNamespace, key: string, pacing: WritePacing): Promise<void> =>
  writePaced('KV', pacing, () => kv.delete(key));

export function createKvListing(kv: KvNamespace): KeyListing {
  return {
    async list({ prefix, cursor, limit }) {
      try {
        const page = await kv.list({ prefix, cursor, limit });
        return {
          items: page.keys.map(({ name }) => name.slice(prefix.length)),
          cursor: page.list_complete ? null : (page.cursor ?? null),
        };
      } catch (error) {
        throw new StoreUnavailable('KV', error);
      }
    },
  };
}

export type SqlValue = string | number | null;

/** The part of a Durable Object's SQLite that graft uses; `SqlStorage` fits it. */
export interface ObjectSql {
  exec(query: string, ...bindings: SqlValue[]): { toArray(): Record<string, unknown>[] };
}

/** The part of a Durable Object namespace's interface that graft uses; `DurableObjectNamespace` implements it. */
export interface DurableNamespace {
  idFromName(name: string): unknown;
  get(id: unknown): { fetch(url: string, init?: RequestInit): Promise<Response> };
}

/**
 * Calls one Durable Object.
 * @param params.what its name in errors. @param params.call sent as JSON. @param params.parse of its JSON; may
 * throw.
 * @throws StoreUnavailable also for an invalid answer.
 */
export async function askObject<T>(params: {
  namespace: DurableNamespace;
  name: string;
  what: string;
  call: unknown;
  parse: (answer: unknown) => T;
  timeoutMs: number;
}): Promise<T> {
  const { namespace, name, what, call, parse, timeoutMs } = params;
  const send = async (): Promise<T> => {
    const object = namespace.get(namespace.idFromName(name));
    // The host is a placeholder: it never leaves the platform.
    const response = await object.fetch('https://object.invalid/', {
      method: 'POST',
      body: JSON.stringify(call),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`the ${what} answered ${response.status}`);
    return parse(JSON.parse(text));
  };
  try {
    return await withTimeout(send(), timeoutMs);
  } catch (error) {
    throw new StoreUnavailable('DO', error);
  }
}
