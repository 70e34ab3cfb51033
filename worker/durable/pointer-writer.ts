import { z } from 'zod';
import { parseEnv, type RawEnv } from '../env.ts';
import * as limits from '../limits.ts';
import { guardDatabase } from '../stores/d1-database.ts';
import { createD1Registry } from '../stores/d1-registry.ts';
import { PointerCall } from '../stores/do-pointers.ts';
import { createKvExperimentIndex } from '../stores/kv-experiment-index.ts';
import { createKvNameIndex } from '../stores/kv-name-index.ts';
import { createSealer } from '../stores/sealed-value.ts';
import type { PointerWriter as Pointers } from '../stores/types.ts';
import { createPointerSync } from './pointer-sync.ts';

/** The part of a Durable Object's storage that the writer uses. */
export interface PointerStorage {
  get(key: string): Promise<unknown>;
  put(key: string, value: unknown): Promise<void>;
  delete(key: string): Promise<unknown>;
  list(options: { prefix: string; limit: number }): Promise<Map<string, unknown>>;
  getAlarm(): Promise<number | null>;
  setAlarm(at: number): Promise<void>;
}

const PENDING = 'pending:';
const Pending = z.object({ since: z.number(), mark: z.boolean() });
const FAILURES = 'failures';
/** Names of one alarm; the rest has to wait for the next. */
const PAGE = 100;

/**
 * Writes the pointers of one shard of the names: a Durable Object runs in one place, so that of two changes the later
 * one's pointer stays. A name is noted on disk before its pointer is written and struck off afterwards; an alarm goes
 * through what is left, so that a write that failed, or was cut off, is made up for by itself.
 */
export class PointerWriter {
  readonly #storage: PointerStorage;
  readonly #pointers: Pointers;
  readonly #now: () => number;
  /** Calls under way, by name: only the last one may strike it off. */
  readonly #active = new Map<string, number>();

  /** @param parts given by tests. */
  constructor(
    context: { storage: PointerStorage },
    env: RawEnv,
    parts?: { pointers: Pointers; now: () => number },
  ) {
    this.#storage = context.storage;
    this.#now = parts?.now ?? Date.now;
    this.#pointers = parts?.pointers ?? pointersOf(env);
  }

  async fetch(request: Request): Promise<Response> {
    const { name, mark } = PointerCall.parse(await request.json());
    try {
      await this.#sync(name, mark);
      return Response.json({ ok: true });
    } catch (error) {
      const reason = error instanceof Error ? error.message : 'unknown error';
      console.error(JSON.stringify({ event: 'pointer_not_written', name, reason }));
      return Response.json({ ok: false, reason });
    }
  }

  async alarm(): Promise<void> {
    const pending = await this.#storage.list({ prefix: PENDING, limit: PAGE });
    let failed = false;
    for (const [key, value] of pending) {
      const name = key.slice(PENDING.length);
      await this.#sync(name, Pending.safeParse(value).data?.mark ?? false).catch((error: unknown) => {
        failed = true;
        console.error(JSON.stringify({ event: 'pointer_not_written', name, reason: String(error) }));
      });
    }
    if (!failed && pending.size < PAGE) {
      await this.#storage.delete(FAILURES);
      return;
    }
    const failures = failed ? Number((await this.#storage.get(FAILURES)) ?? 0) + 1 : 0;
    await this.#storage.put(FAILURES, failures);
    const pause = Math.min(limits.POINTER_RETRY_MS * 2 ** failures, limits.MAX_POINTER_RETRY_MS);
    await this.#storage.setAlarm(this.#now() + pause);
  }

  async #sync(name: string, mark: boolean): Promise<void> {
    this.#active.set(name, (this.#active.get(name) ?? 0) + 1);
    let written = false;
    try {
      await this.#storage.put(PENDING + name, { since: this.#now(), mark } satisfies z.infer<typeof Pending>);
      if ((await this.#storage.getAlarm()) === null)
        await this.#storage.setAlarm(this.#now() + limits.POINTER_RETRY_MS);
      await this.#pointers.sync(name, { mark });
      written = true;
    } finally {
      const others = (this.#active.get(name) ?? 1) - 1;
      if (others > 0) this.#active.set(name, others);
      else this.#active.delete(name);
      if (written && others === 0) await this.#storage.delete(PENDING + name);
    }
  }
}

function pointersOf(env: RawEnv): Pointers {
  const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
  const pointer = {
    kv: env.ADAPTERS,
    sealer: createSealer(parseEnv(env).macKey),
    cacheTtl: limits.POINTER_CACHE_TTL_S,
    retryAfterMs: limits.RETRY_AFTER_MS,
    pacing: { pauseMs: limits.KV_WRITE_PAUSE_MS, tries: limits.KV_WRITE_TRIES, sleep },
  };
  return createPointerSync({
    registry: createD1Registry(guardDatabase(env.DB)),
    names: createKvNameIndex(pointer),
    experiments: createKvExperimentIndex(pointer),
    intervalMs: limits.POINTER_INTERVAL_MS,
    timeoutMs: limits.POINTER_WRITE_TIMEOUT_MS,
    now: Date.now,
    sleep,
  });
}
