import { z } from 'zod';
import { AdapterName, Digest, fnv1a, isHolder } from '../../protocol/index.ts';
import { createD1GrantLedger } from '../access/d1-grants.ts';
import { createD1KeyLedger } from '../access/d1-key-ledger.ts';
import type { RightsWriter } from '../access/ports.ts';
import { parseEnv, type RawEnv } from '../env.ts';
import { logLine } from '../log.ts';
import { askObject, type DurableNamespace } from '../platform/ask-object.ts';
import { guardDatabase } from '../platform/d1-database.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import { createSealer } from '../platform/sealed-index.ts';
import { createD1Registry } from './d1-registry.ts';
import { createKvWriters } from './kv-writers.ts';
import { MAX_POINTER_RETRY_MS, POINTER_RETRY_MS } from './limits.ts';
import type { PointerWriter as Pointers } from './ports-pointers.ts';

/** What the Durable Object is asked to write. */
const PointerCall = z.union([
  z.strictObject({
    name: AdapterName,
    mark: z.boolean().default(false),
    erased: z.boolean().default(false),
  }),
  z.strictObject({ key: Digest, mark: z.boolean().default(false) }),
  z.strictObject({ grants: z.string().refine(isHolder) }),
]);
type PointerCall = z.input<typeof PointerCall>;
const Answer = z.object({ ok: z.boolean(), reason: z.string().optional() });

/** Objects that share the records of a kind among them: each writes a record's changes in order, all of them at once. */
export const POINTER_SHARDS = 64;

/** The number of a record's shard must never change while two versions of the worker run. */
export const shardOf = (record: string, kind: 'names' | 'keys' | 'grants' = 'names'): string =>
  `${kind}-${fnv1a(record) % POINTER_SHARDS}`;

/** Names, keys and grants in KV, written by Durable Objects (`PointerWriter`). */
export function createDoPointers(params: {
  namespace: DurableNamespace;
  timeoutMs: number;
}): Pointers & RightsWriter {
  const { namespace, timeoutMs } = params;
  async function ask(name: string, call: PointerCall): Promise<void> {
    const answer = await askObject({
      ...{ namespace, name, what: 'pointer writer', call, timeoutMs },
      parse: (said) => Answer.parse(said),
    });
    if (!answer.ok) throw new StoreUnavailable('DO', new Error(answer.reason ?? 'no reason given'));
  }
  return {
    sync: (name, { mark = false, erased = false } = {}) =>
      ask(shardOf(name), { name, mark, ...(erased ? { erased } : {}) }),
    syncKey: (key, { mark = false } = {}) => ask(shardOf(key, 'keys'), { key, mark }),
    syncGrants: (tenant) => ask(shardOf(tenant, 'grants'), { grants: tenant }),
  };
}

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
const Pending = z.object({ since: z.number(), mark: z.boolean(), erased: z.boolean().default(false) });
/** How a record is written. */
type Manner = Pick<z.infer<typeof Pending>, 'mark' | 'erased'>;
const PLAIN: Manner = { mark: false, erased: false };
const FAILURES = 'failures';
/** Records of one alarm; the rest has to wait for the next. */
const PAGE = 100;

/** How an object notes a record: a name as it is, which has no colon. */
const KEY = 'key:';
const GRANTS = 'grants:';
const recordOf = (call: z.output<typeof PointerCall>): string =>
  'name' in call ? call.name : 'key' in call ? KEY + call.key : GRANTS + call.grants;

/**
 * Writes what KV holds of one shard of the names, the keys or the tenants' grants: a Durable Object runs in one place,
 * so that of two changes the later one's value stays. A record is noted on disk before it is written and struck off
 * afterwards; an alarm goes through what is left, so that a write that failed, or was cut off, is made up for by itself.
 */
export class PointerWriter {
  readonly #storage: PointerStorage;
  readonly #writers: Pointers & RightsWriter;
  readonly #now: () => number;
  /** Calls under way, by record: only the last one may strike it off. */
  readonly #active = new Map<string, number>();

  /** @param parts given by tests. */
  constructor(
    context: { storage: PointerStorage },
    env: RawEnv,
    parts?: { writers: Pointers & RightsWriter; now: () => number },
  ) {
    this.#storage = context.storage;
    this.#now = parts?.now ?? Date.now;
    this.#writers = parts?.writers ?? writersOf(env);
  }

  async fetch(request: Request): Promise<Response> {
    const call = PointerCall.parse(await request.json());
    const record = recordOf(call);
    try {
      await this.#sync(record, { ...PLAIN, ...call });
      return Response.json({ ok: true });
    } catch (error) {
      const reason = error instanceof Error ? error.message : 'unknown error';
      logLine('pointer_not_written', { record, reason });
      return Response.json({ ok: false, reason });
    }
  }

  async alarm(): Promise<void> {
    const pending = await this.#storage.list({ prefix: PENDING, limit: PAGE });
    let failed = false;
    for (const [key, value] of pending) {
      const record = key.slice(PENDING.length);
      await this.#sync(record, Pending.safeParse(value).data ?? PLAIN).catch((error: unknown) => {
        failed = true;
        logLine('pointer_not_written', { record, reason: String(error) });
      });
    }
    if (!failed && pending.size < PAGE) {
      await this.#storage.delete(FAILURES);
      return;
    }
    const failures = failed ? Number((await this.#storage.get(FAILURES)) ?? 0) + 1 : 0;
    await this.#storage.put(FAILURES, failures);
    const pause = Math.min(POINTER_RETRY_MS * 2 ** failures, MAX_POINTER_RETRY_MS);
    await this.#storage.setAlarm(this.#now() + pause);
  }

  async #sync(record: string, { mark, erased }: Manner): Promise<void> {
    this.#active.set(record, (this.#active.get(record) ?? 0) + 1);
    let written = false;
    try {
      const pending: z.infer<typeof Pending> = { since: this.#now(), mark, erased };
      await this.#storage.put(PENDING + record, pending);
      if ((await this.#storage.getAlarm()) === null)
        await this.#storage.setAlarm(this.#now() + POINTER_RETRY_MS);
      await this.#write(record, { mark, erased });
      written = true;
    } finally {
      const others = (this.#active.get(record) ?? 1) - 1;
      if (others > 0) this.#active.set(record, others);
      else this.#active.delete(record);
      if (written && others === 0) await this.#storage.delete(PENDING + record);
    }
  }

  #write(record: string, { mark, erased }: Manner): Promise<void> {
    if (record.startsWith(KEY)) return this.#writers.syncKey(record.slice(KEY.length), { mark });
    if (record.startsWith(GRANTS)) return this.#writers.syncGrants(record.slice(GRANTS.length));
    return this.#writers.sync(record, { mark, erased });
  }
}

function writersOf(env: RawEnv): Pointers & RightsWriter {
  const db = guardDatabase(env.DB);
  return createKvWriters({
    kv: env.ADAPTERS,
    sealer: createSealer(parseEnv(env).macKey),
    registry: createD1Registry(db),
    keyLedger: createD1KeyLedger(db),
    grantLedger: createD1GrantLedger(db),
    now: Date.now,
    sleep: (ms) => new Promise<void>((resolve) => setTimeout(resolve, ms)),
  });
}
