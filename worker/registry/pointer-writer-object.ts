/**
 * The only writer of names, keys and grants in KV: a Durable Object that writes each record's changes in
 * order, and its client.
 */
import { z } from 'zod';
import { AdapterName, Digest, fnv1a, isHolder } from '../../protocol/identity.ts';
import { createD1GrantLedger } from '../access/d1-grants.ts';
import { createD1KeyLedger } from '../access/d1-key-ledger.ts';
import { createD1StaleRights, type StaleRights } from '../access/d1-stale-rights.ts';
import { type RightsWriter, heldGrants, keyRecordOf } from '../access/ports.ts';
import type { GrantIndex, KeyIndex } from './kv-indexes.ts';
import type { GrantLedger } from '../access/d1-grants.ts';
import type { KeyLedger } from '../access/d1-key-ledger.ts';
import { parseEnv, type RawEnv } from '../env.ts';
import { logLine, reasonOf } from '../log.ts';
import { askObject, type DurableNamespace, type KvNamespace, withTimeout } from '../platform/store-calls.ts';
import { guardDatabase } from '../platform/d1-database.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import { createSealer, type Sealer } from '../platform/kv-cache.ts';
import { createD1Registry } from './d1-registry.ts';
import {
  LATE_WRITE_MS,
  MAX_POINTER_RETRY_MS,
  POINTER_RETRY_MS,
  POINTER_INTERVAL_MS,
  POINTER_WRITE_TIMEOUT_MS,
} from './limits.ts';
import type { NameIndex, PointedExperiment, Pointer, PointerWriter as Pointers, Registry } from './ports.ts';
import {
  createKvGrantIndex,
  createKvKeyIndex,
  createKvNameIndex,
  createKvExperimentIndex,
} from './kv-indexes.ts';
import {
  KV_WRITE_PAUSE_MS,
  KV_WRITE_TRIES,
  POINTER_CACHE_TTL_S,
  RETRY_AFTER_MS,
  GONE_MARK_TTL_S,
} from '../limits.ts';
import { experimentEntryOf, nameEntryOf } from './write-pointer.ts';
import type { ExperimentIndex } from '../experiments/ports.ts';

/** What the Durable Object can write. */
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

/**
 * Durable Objects per kind of record. Each writes one record's changes in order, and different records
 * concurrently.
 */
export const POINTER_SHARDS = 64;

/** A record's shard must not change while two versions of the worker run. */
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
const Pending = z.object({
  since: z.number(),
  mark: z.boolean(),
  erased: z.boolean(),
  /** It is written, and is to be written once more at this time, unix ms; null = it is not written. */
  again: z.number().nullable(),
});
/** Options of a record's next write. */
type Manner = Pick<z.infer<typeof Pending>, 'mark' | 'erased'>;
const PLAIN: Manner = { mark: false, erased: false };
const FAILURES = 'failures';
/** Records per alarm; the rest waits for the next. */
const PAGE = 100;

/** How a record is stored: names as they are (they contain no colon), others with a prefix. */
const KEY = 'key:';
const GRANTS = 'grants:';
const recordOf = (call: z.output<typeof PointerCall>): string =>
  'name' in call ? call.name : 'key' in call ? KEY + call.key : GRANTS + call.grants;

/**
 * Writes one shard of the names, keys or grants to KV. A Durable Object runs in one place, so the later of
 * two changes wins. A record is noted on disk before it is written and removed afterwards; an alarm retries
 * what is left, so failed or interrupted writes are made up for. These may land later still, after this object's end
 * too: after one of them a record is written twice, the second time when nothing can be on its way any more.
 */
export class PointerWriter {
  readonly #storage: PointerStorage;
  readonly #writers: Pointers & RightsWriter;
  readonly #now: () => number;
  /** Running calls by record: only the last one may remove the note. */
  readonly #active = new Map<string, number>();
  /** Records that are to be written once more at this time, unix ms. */
  readonly #again = new Map<string, number>();

  /** @param parts replaced by tests. */
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
    let next = Infinity;
    for (const [key, value] of pending) {
      const record = key.slice(PENDING.length);
      const noted = Pending.safeParse(value).data;
      const again = noted?.again ?? -Infinity;
      if (again > this.#now()) {
        next = Math.min(next, again);
        continue;
      }
      await this.#sync(record, noted ?? PLAIN).catch((error: unknown) => {
        failed = true;
        logLine('pointer_not_written', { record, reason: String(error) });
      });
    }
    if (!failed && pending.size < PAGE) {
      await this.#storage.delete(FAILURES);
      if (next < Infinity && (await this.#storage.getAlarm()) === null) await this.#storage.setAlarm(next);
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
      await this.#noteLate(record);
      const pending: z.infer<typeof Pending> = { since: this.#now(), mark, erased, again: null };
      await this.#storage.put(PENDING + record, pending);
      if ((await this.#storage.getAlarm()) === null)
        await this.#storage.setAlarm(this.#now() + POINTER_RETRY_MS);
      await this.#write(record, { mark, erased });
      written = true;
    } finally {
      const others = (this.#active.get(record) ?? 1) - 1;
      if (others > 0) this.#active.set(record, others);
      else this.#active.delete(record);
      if (!written) this.#again.set(record, this.#now() + LATE_WRITE_MS);
      else if (others === 0) await this.#strikeOff(record, { mark, erased });
    }
  }

  /** A write that failed, or died with an earlier instance, may still be on its way to KV, and land on the next one. */
  async #noteLate(record: string): Promise<void> {
    if ((this.#active.get(record) ?? 0) > 1) return;
    const value = await this.#storage.get(PENDING + record);
    if (value === undefined) return;
    const again = Pending.safeParse(value).data?.again ?? this.#now() + LATE_WRITE_MS;
    if (again > this.#now()) this.#again.set(record, again);
  }

  async #strikeOff(record: string, { mark, erased }: Manner): Promise<void> {
    const again = this.#again.get(record);
    this.#again.delete(record);
    if (again === undefined) {
      await this.#storage.delete(PENDING + record);
      return;
    }
    // If there is nothing to point at then, what has landed must not stay.
    const manner = { mark: true, erased: erased || !mark };
    const pending: z.infer<typeof Pending> = { since: this.#now(), ...manner, again };
    await this.#storage.put(PENDING + record, pending);
    if ((await this.#storage.getAlarm()) === null) await this.#storage.setAlarm(again);
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
    staleRights: createD1StaleRights(db),
    now: Date.now,
    sleep: (ms) => new Promise<void>((resolve) => setTimeout(resolve, ms)),
  });
}

export function createKvWriters(params: {
  kv: KvNamespace;
  sealer: Sealer;
  registry: Registry;
  keyLedger: KeyLedger;
  grantLedger: GrantLedger;
  staleRights: StaleRights;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): Pointers & RightsWriter {
  const { kv, sealer, now, sleep } = params;
  const pointer = {
    ...{ kv, sealer, cacheTtl: POINTER_CACHE_TTL_S, retryAfterMs: RETRY_AFTER_MS },
    pacing: { pauseMs: KV_WRITE_PAUSE_MS, tries: KV_WRITE_TRIES, sleep },
  };
  const lanes = { intervalMs: POINTER_INTERVAL_MS, timeoutMs: POINTER_WRITE_TIMEOUT_MS, now, sleep };
  return {
    ...createPointerSync({
      ...lanes,
      registry: params.registry,
      names: createKvNameIndex(pointer),
      experiments: createKvExperimentIndex(pointer),
    }),
    ...createRightsSync({
      ...lanes,
      keyLedger: params.keyLedger,
      keys: createKvKeyIndex(pointer),
      grantLedger: params.grantLedger,
      grants: createKvGrantIndex(pointer),
      staleRights: params.staleRights,
    }),
  };
}

/**
 * Writes pointers, and the experiments of their names, in the order of their changes
 * ({@link createWriteLanes}), and then clears their notes of stale pointers. All calls for a name must reach
 * the same instance.
 */
export function createPointerSync(
  params: {
    registry: Pick<Registry, 'pointerToWrite' | 'pointersWritten'>;
    names: Pick<NameIndex, 'put' | 'remove'>;
    experiments: Pick<ExperimentIndex, 'put' | 'remove'>;
  } & Omit<Parameters<typeof createWriteLanes>[0], 'write'>,
): Pointers {
  const { registry, names, experiments, now, timeoutMs, intervalMs } = params;
  /** Names for which the next write leaves a mark if there is nothing to point at -> its TTL, s. */
  const marks = new Map<string, number | undefined>();

  async function write(name: string, afterLate: boolean): Promise<boolean> {
    const began = now();
    const { pointer, change } = await registry.pointerToWrite(name);
    // It was erased in the meantime.
    if (afterLate && pointer.kind === 'none' && !marks.has(name)) marks.set(name, GONE_MARK_TTL_S);
    const written = await writeEntry(name, pointer, began);
    if (change !== null) strikeOff(name, registry.pointersWritten([{ name, change }]));
    return written;
  }

  async function writeEntry(name: string, pointer: Pointer, began: number): Promise<boolean> {
    if (pointer.kind === 'none' && !marks.has(name)) return false;
    const ttl = marks.get(name);
    marks.delete(name);
    // Before the manifest that refers to it. When an experiment has ended, this also reaches readers of the
    // old manifest first.
    if (pointer.kind === 'version' && pointer.experiment !== undefined)
      await putExperiment(name, pointer.experiment, began);
    const entry = nameEntryOf(name, pointer);
    if (entry === null) await names.remove(name, ttl);
    else await names.put(entry);
    return true;
  }

  /** @param began when the write that read it began, unix ms. */
  async function putExperiment(name: string, experiment: PointedExperiment, began: number): Promise<void> {
    try {
      await experiments.put(experimentEntryOf(experiment));
    } finally {
      // It has been given up, and landed after its name was erased, which took the entry away. Its time ran before that,
      // too, while it waited for its turn.
      const late = now() - began >= timeoutMs - intervalMs;
      if (late && NOTHING.has((await registry.pointerToWrite(name)).pointer.kind))
        await experiments.remove(experiment.id);
    }
  }

  const sync = createWriteLanes({ ...params, write });
  return {
    sync(name, options = {}) {
      const { mark = false, erased = false } = options;
      if (mark || erased) marks.set(name, erased ? GONE_MARK_TTL_S : undefined);
      return sync(name);
    },
  };
}

/** A name that serves nothing: it is erased, is being erased, or was removed. */
const NOTHING: ReadonlySet<Pointer['kind']> = new Set(['none', 'gone']);

/** Not awaited: a note that remains only causes another write, which is harmless. */
function strikeOff(record: string, striking: Promise<void>): void {
  striking.catch((error: unknown) => {
    const reason = reasonOf(error);
    logLine('pointer_not_struck_off', { record, reason }, 'warning');
  });
}

/**
 * Writes keys and grants in the order of their changes ({@link createWriteLanes}), so an older write cannot
 * restore what was revoked, and then clears their notes of stale rights. All calls for a key, or for a
 * tenant's grants, must reach the same instance.
 */
export function createRightsSync(
  params: {
    keyLedger: Pick<KeyLedger, 'toWrite'>;
    keys: Pick<KeyIndex, 'put' | 'revoke'>;
    grantLedger: Pick<GrantLedger, 'toWrite'>;
    grants: Pick<GrantIndex, 'put'>;
    staleRights: Pick<StaleRights, 'written'>;
  } & Omit<Parameters<typeof createWriteLanes>[0], 'write'>,
): RightsWriter {
  const { keyLedger, keys, grantLedger, grants, staleRights } = params;
  /** Hashes for which the next write leaves a mark if there is no such key. */
  const marks = new Set<string>();

  async function writeKey(hash: string, afterLate: boolean): Promise<boolean> {
    const { row, change } = await keyLedger.toWrite(hash);
    if (row === null && change === null && !marks.has(hash) && !afterLate) return false;
    // Admin keys are never in KV.
    if (row !== null && row.kind !== 'api') return false;
    marks.delete(hash);
    if (row !== null && row.revoked_at === null) await keys.put(hash, keyRecordOf(row));
    else await keys.revoke(hash);
    if (change !== null) strikeOff(KEY + hash, staleRights.written(change));
    return true;
  }

  async function writeGrants(tenant: string): Promise<boolean> {
    const { rows, refusals, change } = await grantLedger.toWrite(tenant);
    await grants.put(tenant, heldGrants(rows, refusals));
    if (change !== null) strikeOff(GRANTS + tenant, staleRights.written(change));
    return true;
  }

  const syncKey = createWriteLanes({ ...params, write: writeKey });
  const syncGrants = createWriteLanes({ ...params, write: writeGrants });
  return {
    syncKey(hash, options = {}) {
      if (options.mark === true) marks.add(hash);
      return syncKey(hash);
    },
    syncGrants,
  };
}

interface Lane {
  /** The running write; it may have read the system of record before the latest change. */
  running: Promise<void> | null;
  /** The next write, which reads again; all later calls share it. */
  queued: Promise<void> | null;
}

/**
 * Copies records from the system of record to KV, one write per record at a time. Each write reads when it
 * starts, so the last one has the latest state. All calls for a record must reach the same instance.
 * @param params.write reads and writes the record. With `afterLate`, a write that had timed out has landed
 * since: if there is nothing to write any more, leave a mark. Returns whether it wrote.
 * @param params.intervalMs between two writes of a record.
 * @param params.timeoutMs after which a write counts as failed, so that later ones need not wait. If it
 * completes after all, it may have overwritten a later one, so the record is written again.
 * @returns a function that writes a record, and resolves when KV has a state that was read after the call.
 * @throws StoreUnavailable
 */
function createWriteLanes(params: {
  write: (record: string, afterLate: boolean) => Promise<boolean>;
  intervalMs: number;
  timeoutMs: number;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): (record: string) => Promise<void> {
  const { intervalMs, timeoutMs, now, sleep } = params;
  const lanes = new Map<string, Lane>();
  /** Unix ms of each record's last write, as long as it matters. */
  const writtenAt = new Map<string, number>();
  /** Records that a write has changed after its timeout, until they are rewritten. */
  const landed = new Set<string>();

  async function write(record: string): Promise<void> {
    const wait = (writtenAt.get(record) ?? -Infinity) + intervalMs - now();
    if (wait > 0) await sleep(wait);
    let written = true;
    const afterLate = landed.delete(record);
    try {
      written = await params.write(record, afterLate);
    } catch (error) {
      if (afterLate) landed.add(record);
      throw error;
    } finally {
      for (const [other, at] of writtenAt) if (now() - at >= intervalMs) writtenAt.delete(other);
      if (written) writtenAt.set(record, now());
    }
  }

  async function writeInTime(record: string): Promise<void> {
    let ended = false;
    const writing = write(record).finally(() => (ended = true));
    try {
      await withTimeout(writing, timeoutMs);
    } catch (error) {
      if (!ended)
        void writing
          .catch(() => undefined)
          .then(() => {
            landed.add(record);
            return sync(record);
          })
          .catch(() => undefined);
      throw error instanceof StoreUnavailable ? error : new StoreUnavailable('KV', error);
    }
  }

  /** @returns the write's own promise; the queued write starts even if it fails. */
  function start(record: string, lane: Lane): Promise<void> {
    const running = writeInTime(record).finally(() => {
      lane.running = null;
      if (lane.queued === null) lanes.delete(record);
    });
    lane.running = running;
    return running;
  }

  function sync(record: string): Promise<void> {
    const lane = lanes.get(record) ?? { running: null, queued: null };
    lanes.set(record, lane);
    if (lane.running === null && lane.queued === null) return start(record, lane);
    lane.queued ??= (lane.running ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => {
        lane.queued = null;
        return start(record, lane);
      });
    return lane.queued;
  }

  return sync;
}
