/**
 * How stores are called: KV and Durable Objects as graft uses them, with timeouts, paced writes and batches.
 */
import { StoreUnavailable, type StoreName, type KeyListing } from './ports.ts';

const LATE = Symbol('late');

/**
 * @param onLate makes the answer when `work` takes longer than `ms`, or throws, as it does unless given. The work goes on,
 * unheard.
 */
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

/** KV's and R2's words for "the same key was written less than a second ago" (R2's code is 10058). */
const isRateLimited = (error: unknown): boolean =>
  error instanceof Error && /429|too many|10058/i.test(error.message);

/**
 * Writes, and again after a pause when the key was written within the last second.
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

/** A flush that has not ended by then was cut off with the request that carried it. */
const FLUSH_ENDS_MS = 30_000;

interface BatchedWrites<Batch> {
  /** Sent with the next flush. */
  add(batch: Batch): void;
  /** Begins a flush unless one is under way. @param keepAlive lets it go on after the response. */
  flushSoon(keepAlive: (work: Promise<unknown>) => void): void;
}

/** How long what was noted waits, ms. @param env tests shorten it there. @param usual its own time. */
export const flushMs = (env: { FLUSH_MS?: string | undefined }, usual: number): number =>
  Math.min(usual, Number(env.FLUSH_MS ?? usual));

/**
 * Sends what an isolate notes in batches, beside and after the responses: one flush for all that came within `flushMs`. A
 * batch is tried again as it is, so that with an id of its own it counts once. What is noted and not yet written is lost
 * if the isolate dies; what is refused is kept and sent with the next flush.
 * @param params.close adds what is noted so far; called when a flush begins to send.
 * @param params.lane batches of one lane go one after the other, and not past one that was refused.
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
  /** Unix ms at which the flush that is under way began; -Infinity = none. */
  let flushing = -Infinity;

  async function send(batch: Batch): Promise<boolean> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await write(batch);
        return true;
      } catch (error) {
        if (attempt < tries) {
          await sleep(flushMs * attempt);
          continue;
        }
        onRefused(batch, error instanceof Error ? error.message : 'unknown error');
        return false;
      }
    }
  }

  async function sendLane(batches: readonly Batch[]): Promise<void> {
    for (const batch of batches) {
      // One that another flush is sending is written once whoever comes second: it has its id.
      if (!(await send(batch))) return;
      const at = unsent.indexOf(batch);
      if (at !== -1) unsent.splice(at, 1);
    }
  }

  async function flush(): Promise<void> {
    await sleep(flushMs);
    // What comes from now on begins the next flush.
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

/** The part of Workers KV that graft uses; `KVNamespace` fits it, and so does the fake of the tests. */
export interface KvNamespace {
  get(key: string, options: { type: 'text'; cacheTtl: number }): Promise<string | null>;
  get(key: string, options: { type: 'stream'; cacheTtl: number }): Promise<ReadableStream<Uint8Array> | null>;
  /** One read for several keys, at most 100. */
  get(keys: string[], options: { type: 'text'; cacheTtl: number }): Promise<Map<string, string | null>>;
  /** @param options.expirationTtl seconds, 60 at least, after which it is gone; it stays unless given. */
  put(
    key: string,
    value: string | Uint8Array<ArrayBuffer>,
    options?: { expirationTtl?: number },
  ): Promise<void>;
  delete(key: string): Promise<void>;
  /** A page of at most `limit` keys (1,000 unless given, and at most), in the order of their bytes. */
  list(options: { prefix: string; cursor: string | null; limit?: number }): Promise<{
    keys: { name: string }[];
    list_complete: boolean;
    cursor?: string;
  }>;
}

/**
 * Writes, and again after a pause when the key was written within the last second.
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

/** The part of a Durable Object's namespace that graft uses; `DurableObjectNamespace` fits it. */
export interface DurableNamespace {
  idFromName(name: string): unknown;
  get(id: unknown): { fetch(url: string, init?: RequestInit): Promise<Response> };
}

/**
 * Asks one Durable Object.
 * @param params.what it is called in errors. @param params.call sent as JSON. @param params.parse of its JSON; may throw.
 * @throws StoreUnavailable also when it answers something odd.
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
    // The address is for nobody: it never leaves the platform.
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
