/**
 * The KV inbox: files put into KV by hand are processed like published ones, by the schedule, and for the first
 * request for a missing name.
 */
import { BoundedMap } from '../platform/bounded-map.ts';
import type { AdapterManifest, BlobRecord } from '../../protocol/adapter-manifest.ts';
import { type ApiError, type Result, err, ok } from '../../protocol/api-error.ts';
import { AdapterName, sha256Hex } from '../../protocol/identity.ts';
import { MAX_PART_BYTES } from '../../protocol/limits.ts';
import { registryUnavailable, adapterInvalid } from '../errors.ts';
import { logLine } from '../log.ts';
import { type Page, StoreUnavailable } from '../platform/ports.ts';
import type { RequestLife, IntakeDeps, VersionRow } from '../registry/ports.ts';
import { manifestOf } from '../registry/write-pointer.ts';
import {
  DROP_PAGES_PER_PASS,
  DROP_READS_PER_PASS,
  DROP_TURN_MS,
  DROPS_PER_PASS,
  DROP_POLL_MS,
  DROP_QUIET_MS,
  DROP_STALL_MS,
  MAX_QUIET_DROPS,
  DROP_SETTLE_MS,
  DROP_STALE_MS,
  DROP_CACHE_TTL_S,
  DROP_TIMEOUT_MS,
} from './limits.ts';

import type { DropLedger, DropRow } from './d1-drop-ledger.ts';
import type { MayUseChain } from '../registry/assemble-chain.ts';
import { publishVersion } from '../registry/publish-version.ts';
import { AdapterFormatError, createHeadReader } from '../../adapters/read-head.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { GrantLedger } from '../access/d1-grants.ts';
import { finishBlob, receivePart } from '../blobs/stored-file.ts';
import { MAX_CHECKED_HEADER_BYTES } from '../blobs/limits.ts';
import { mayUseChain } from '../access/authenticate.ts';
import {
  type KvNamespace,
  deletePaced,
  putPaced,
  type WritePacing,
  withTimeout,
} from '../platform/store-calls.ts';

export type Drops = ReturnType<typeof createDrops>;

export const createInbox = (params: { kv: KvNamespace; pacing: WritePacing }): KvInbox =>
  createKvInbox({ ...params, cacheTtl: DROP_CACHE_TTL_S, timeoutMs: DROP_TIMEOUT_MS });

/** @param params.tenant owner of a file if no name above it has one. */
export function createDrops(
  params: IntakeDeps & {
    kv: KvNamespace;
    pacing: WritePacing;
    grantLedger: GrantLedger;
    dropLedger: DropLedger;
    tenant: string;
  },
) {
  const { kv, pacing, tenant, ...intake } = params;
  const deps: DropDeps = {
    ...intake,
    mayUseChain,
    dropTenant: tenant,
    drops: createInbox({ kv, pacing }),
  };
  return {
    /** Where the files lie. */
    box: deps.drops,
    onMiss: createTakeDropOnMiss({ ...deps, sleep: pacing.sleep }),
    /** One pass over the whole inbox. */
    takeAll: (keepAlive: RequestLife['keepAlive']) =>
      takeAllDrops(deps, { signal: new AbortController().signal, keepAlive }),
  };
}

const PREFIX = 'drop:';
const ERROR_PREFIX = 'drop-error:';
const MAX_KEY_BYTES = 512;

/** @returns the key of a refusal's text; names that are too long are truncated. */
const errorKey = (name: string): string => {
  let shown = name;
  while (new TextEncoder().encode(ERROR_PREFIX + shown).length > MAX_KEY_BYTES) shown = shown.slice(0, -1);
  return ERROR_PREFIX + shown;
};

/**
 * `drop:<name>` -> a packed file, put there by hand; `drop-error:<name>` -> why it was refused, for people to
 * read.
 */
export function createKvInbox(params: {
  kv: KvNamespace;
  /** Maximum age of a repeated read, seconds. */
  cacheTtl: number;
  /** Until a file has arrived. */
  timeoutMs: number;
  pacing: WritePacing;
}) {
  const { kv, cacheTtl, timeoutMs, pacing } = params;
  const guard = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw new StoreUnavailable('KV', error);
    }
  };
  const readWhole = async (name: string) => {
    const stream = await kv.get(PREFIX + name, { type: 'stream', cacheTtl });
    return stream === null ? null : new Uint8Array(await new Response(stream).arrayBuffer());
  };
  return {
    /** A page of names, in the keys' order: parents before their children. */
    list: (cursor: string | null): Promise<Page<string>> =>
      guard(async () => {
        const page = await withTimeout(kv.list({ prefix: PREFIX, cursor }), timeoutMs);
        return {
          items: page.keys.map((key) => key.name.slice(PREFIX.length)),
          cursor: page.list_complete ? null : (page.cursor ?? null),
        };
      }),
    /** @returns null when there is nothing (any more); what was read lately may be read so again. */
    read: (name: string): Promise<Uint8Array<ArrayBuffer> | null> =>
      guard(() => withTimeout(readWhole(name), timeoutMs)),
    remove: (name: string): Promise<void> => deletePaced(kv, PREFIX + name, pacing),
    putError: (name: string, error: DropError): Promise<void> =>
      putPaced(kv, errorKey(name), JSON.stringify(error), pacing),
    clearError: (name: string): Promise<void> => deletePaced(kv, errorKey(name), pacing),
  };
}

/** Where dropped files lie. Nothing of it is trusted: names may be illegal, bytes anything. Throws StoreUnavailable. */
export type KvInbox = ReturnType<typeof createKvInbox>;

export interface DropPass {
  taken: number;
  refused: number;
  postponed: number;
}

/** Anyone who can write KV chooses the names; a log line shows this much of one. */
const SHOWN_CHARACTERS = 128;

/** One line for operators; the reason is in `drop-error:<name>` too. */
export function logDrop(name: string, outcome: DropOutcome): void {
  if (outcome.kind === 'none' || outcome.kind === 'known') return;
  const event = `drop_${outcome.kind}`;
  const shown = name.slice(0, SHOWN_CHARACTERS);
  if (outcome.kind === 'taken') logLine(event, { name: shown, version: outcome.row.version }, 'info');
  else logLine(event, { name: shown, code: outcome.error.code, message: outcome.error.message });
}

/**
 * Reads the inbox's files, parents before their children, and processes a limited number. Decided files are
 * removed within two passes; undecided ones stay, so each pass starts at another place, and all get their turn.
 * @throws StoreUnavailable when they cannot be listed.
 */
async function takeAllDrops(deps: DropDeps, life: RequestLife): Promise<DropPass> {
  const pass: DropPass = { taken: 0, refused: 0, postponed: 0 };
  const waiting: string[] = [];
  let looked = 0;
  for (const name of rotateByFamily(await listDrops(deps.drops), Math.floor(deps.now() / DROP_TURN_MS))) {
    const decided = pass.taken + pass.refused + pass.postponed;
    if (decided >= DROPS_PER_PASS || looked >= DROP_READS_PER_PASS) return pass;
    // Below an undecided name nothing can be decided: its parent may be about to arrive.
    if (waiting.some((above) => name.startsWith(`${above}/`))) continue;
    looked += 1;
    const outcome = await tryDrop(deps, name, life);
    if (outcome.kind === 'postponed') waiting.push(name);
    if (outcome.kind !== 'none' && outcome.kind !== 'known') pass[outcome.kind] += 1;
  }
  return pass;
}

async function listDrops(drops: KvInbox): Promise<string[]> {
  const names: string[] = [];
  let cursor: string | null = null;
  for (let pages = 0; pages < DROP_PAGES_PER_PASS; pages += 1) {
    const page: Page<string> = await drops.list(cursor);
    names.push(...page.items);
    cursor = page.cursor;
    if (cursor === null) break;
  }
  return names;
}

/**
 * @param names parents before their children.
 * @returns the same, grouped by topmost name; each pass starts with another group.
 */
export function rotateByFamily(names: readonly string[], turn: number): string[] {
  const trees = new Map<string, string[]>();
  for (const name of names) {
    let root = name;
    for (let end = name.indexOf('/'); end > 0 && root === name; end = name.indexOf('/', end + 1))
      if (trees.has(name.slice(0, end))) root = name.slice(0, end);
    const tree = trees.get(root);
    if (tree === undefined) trees.set(root, [name]);
    else tree.push(name);
  }
  const all = [...trees.values()];
  let step = DROPS_PER_PASS;
  while (greatestDivisor(step, all.length) > 1) step -= 1;
  const first = all.length === 0 ? 0 : (turn * step) % all.length;
  return [...all.slice(first), ...all.slice(0, first)].flat();
}

/** Of both. */
const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b));

/** A failing file does not block the others. */
async function tryDrop(deps: DropDeps, name: string, life: RequestLife): Promise<DropOutcome> {
  let outcome: DropOutcome;
  try {
    outcome = await takeDrop(deps, { name, life });
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
    outcome = {
      kind: 'postponed',
      error: registryUnavailable(0, error.message),
    };
  }
  logDrop(name, outcome);
  return outcome;
}

/**
 * @returns the live version of a missing name, if a valid file was in `drop:<name>`; otherwise null for any
 * reason: to a caller that may not know of it, a failing file looks like a missing name.
 */
export type TakeDropOnMiss = (
  name: string,
  life: RequestLife,
  /**
   * The name exists, but not for the caller: a dummy name is read instead, so that timing reveals nothing, and
   * nothing is processed.
   */
  pretend?: { decoy: string },
) => Promise<AdapterManifest | null>;

/**
 * For requests for a missing name, once the caller's key is known. One at a time per name in this isolate:
 * later requests poll a note of the first one instead of awaiting its promise, which never settles if that
 * request is cut off.
 */
function createTakeDropOnMiss(deps: DropDeps & { sleep: (ms: number) => Promise<void> }): TakeDropOnMiss {
  /** Name -> unix ms of its start. */
  const busy = new Map<string, number>();
  /** Name -> unix ms until which it is left to the schedule: KV's cached answer lasts a while. */
  const quiet = new BoundedMap<string, number>(MAX_QUIET_DROPS);
  const isBusy = (name: string) => deps.now() - (busy.get(name) ?? -Infinity) < DROP_STALL_MS;

  const hush = (name: string) => quiet.set(name, deps.now() + DROP_QUIET_MS);

  const live = async (name: string): Promise<AdapterManifest | null> => {
    const row = await deps.registry.live(name);
    return row && manifestOf(row);
  };

  async function take(name: string, keepAlive: RequestLife['keepAlive']): Promise<AdapterManifest | null> {
    // Others wait for the file too, so this client must not abort it.
    const life = { signal: new AbortController().signal, keepAlive };
    const outcome = await takeDrop(deps, { name, life });
    logDrop(name, outcome);
    const served = outcome.kind === 'taken' || outcome.kind === 'known' ? await live(name) : null;
    if (served === null) hush(name);
    return served;
  }

  async function lookInVain(name: string, decoy: string): Promise<null> {
    await deps.drops.read(decoy);
    hush(name);
    return null;
  }

  return async (name, life, pretend) => {
    if (deps.now() < (quiet.get(name) ?? -Infinity)) return null;
    if (isBusy(name)) {
      while (isBusy(name)) await deps.sleep(DROP_POLL_MS);
      return live(pretend?.decoy ?? name);
    }
    busy.set(name, deps.now());
    const taking = pretend === undefined ? take(name, life.keepAlive) : lookInVain(name, pretend.decoy);
    const work = taking
      .catch((error: unknown) => {
        hush(name);
        const message = error instanceof Error ? error.message : 'unknown error';
        logLine('drop_trouble', { name, message });
        return null;
      })
      .finally(() => busy.delete(name));
    // The next request profits even if this one's client has disconnected.
    life.keepAlive(work);
    return work;
  };
}

/**
 * `new`: undecided, or put there again after its removal; `known`: leave it; `settled`: it was accepted, and
 * the file may be removed; `last`: it was refused, and is tried once more before its removal, because something
 * missing, such as its parent, may have arrived in the meantime.
 */
type Recalled = { kind: 'new' } | { kind: 'known' | 'settled' | 'last'; row: DropRow };

/**
 * Classifies a file just read from KV. KV shows removed or replaced files for a while, elsewhere longer than
 * here: a file that was removed according to our own records counts as removed only when no location can show
 * it any more.
 * @param rows of its name, newest first. @param now unix ms.
 */
export function recallDrop(rows: readonly DropRow[], sha256: string, now: number): Recalled {
  const place = rows.findIndex((row) => row.sha256 === sha256);
  const row = rows[place];
  if (row === undefined) return { kind: 'new' };
  const followedAt = rows[place - 1]?.at ?? null;
  // Refusing it once more is harmless, so whoever puts it there again need not wait.
  if (row.version === null && row.removedAt !== null && followedAt === null) return { kind: 'new' };
  const goneAt = followedAt ?? row.removedAt;
  if (goneAt !== null) return now - goneAt < DROP_STALE_MS ? { kind: 'known', row } : { kind: 'new' };
  if (now - row.at < DROP_SETTLE_MS) return { kind: 'known', row };
  return { kind: row.version === null ? 'last' : 'settled', row };
}

interface DropDeps extends StoreDropDeps {
  drops: KvInbox;
  dropLedger: DropLedger;
  mayUseChain: MayUseChain;
}

type DropOutcome =
  | { kind: 'none' }
  /** Became a version, or is the live one already. */
  | { kind: 'taken'; row: VersionRow }
  /** The same file was decided before. */
  | { kind: 'known'; row: DropRow }
  | { kind: 'refused'; error: ApiError }
  /** Undecidable now; it stays where it is. */
  | { kind: 'postponed'; error: ApiError };

/**
 * Processes the file under `drop:<name>`, with the checks of a publication. Its result is stored, so that the
 * same file is processed once, however often it is seen. It is removed from KV only when it is seen again,
 * unchanged, after every cached copy has expired: an immediate read would not show what is there now.
 * @throws StoreUnavailable
 */
async function takeDrop(deps: DropDeps, params: { name: string; life: RequestLife }): Promise<DropOutcome> {
  const { name, life } = params;
  const legal = AdapterName.safeParse(name);
  if (!legal.success) {
    const problem = legal.error.issues[0]?.message ?? 'illegal';
    const error = adapterInvalid('name_invalid', `The name after "drop:" is invalid: ${problem}.`, 'name');
    await deps.drops.putError(name, { ...told(error), at: deps.now(), retrying: false });
    await deps.drops.remove(name);
    return { kind: 'refused', error };
  }
  const stored = await readDrop(deps, name);
  if (stored.kind !== 'new') return stored;
  const { sha256, last } = stored;
  const published = stored.file.ok
    ? await publishVersion(deps, {
        request: { name, digest: sha256, parent: stored.file.value.parent },
        caller: stored.file.value.caller,
        life,
        action: 'drop',
      })
    : stored.file;
  const at = deps.now();
  if (published.ok) {
    const { row } = published.value;
    await deps.dropLedger.put({ name, sha256, version: row.version, at, removedAt: null });
    await deps.drops.clearError(name);
    return { kind: 'taken', row };
  }
  const { error } = published;
  const retrying = mayPass(error);
  await deps.drops.putError(name, { ...told(error), at, retrying });
  if (retrying) return { kind: 'postponed', error };
  if (last) await deps.drops.remove(name);
  const isNoted = await deps.dropLedger.put({
    name,
    sha256,
    version: null,
    at,
    removedAt: last ? at : null,
  });
  if (!isNoted) await deps.drops.clearError(name);
  return { kind: 'refused', error };
}

const told = (error: ApiError) => ({
  code: error.code,
  ...('reason' in error && error.reason !== undefined ? { reason: error.reason } : {}),
  message: error.message,
});

/** The same file may be accepted later without any action on it. */
const mayPass = (error: ApiError): boolean =>
  ('retryAfterMs' in error && error.retryAfterMs !== null) ||
  ['version_conflict', 'deadline_exceeded', 'internal_error'].includes(error.code);

type ReadDrop =
  | DropOutcome
  /** `last`: if it is refused again, it is removed. */
  | { kind: 'new'; sha256: string; last: boolean; file: Result<DroppedFile, ApiError> };

/** A separate function, so that the bytes are freed with it: 25 MiB of an isolate's 128. */
async function readDrop(deps: DropDeps, name: string): Promise<ReadDrop> {
  const bytes = await deps.drops.read(name);
  if (bytes === null) return { kind: 'none' };
  const sha256 = await sha256Hex(bytes);
  const recalled = recallDrop(await deps.dropLedger.recent(name), sha256, deps.now());
  switch (recalled.kind) {
    case 'known':
      return { kind: 'known', row: recalled.row };
    case 'settled': {
      await deps.drops.remove(name);
      const removedAt = deps.now();
      await deps.dropLedger.removed(recalled.row, removedAt);
      return { kind: 'known', row: { ...recalled.row, removedAt } };
    }
    case 'new':
    case 'last': {
      const file = await storeDrop(deps, { name, bytes, digest: sha256 });
      return { kind: 'new', sha256, last: recalled.kind === 'last', file };
    }
  }
}

interface StoreDropDeps extends IntakeDeps {
  grantLedger: GrantLedger;
  /** Owner of a file if no name above it has one. */
  dropTenant: string;
}

/** Actor in the history. */
const DROP_ACTOR = 'drop';

interface DroppedFile {
  /** Nearest live name above, if the file was trained on a parent. */
  parent: string | null;
  /** Its owner, as if they had uploaded it. */
  caller: AdminCaller;
}

/** Stores the file as a blob of the name's owner. @throws StoreUnavailable */
async function storeDrop(
  deps: StoreDropDeps,
  params: { name: string; bytes: Uint8Array<ArrayBuffer>; digest: string },
): Promise<Result<DroppedFile, ApiError>> {
  const { name, bytes, digest } = params;
  const parentChainId = parentChainOf(bytes);
  if (!parentChainId.ok) return parentChainId;
  const { owner, above } = await roomOf(deps, name);
  if (parentChainId.value !== null && above === null)
    return err(
      adapterInvalid(
        'parent_mismatch',
        `The adapter was packed on the chain ${parentChainId.value}, but no name above '${name}' has a ` +
          'live version.',
        'parent',
      ),
    );
  const parent = parentChainId.value === null ? null : above;
  const grants = parent === null ? [] : await deps.grantLedger.usableBy(owner);
  const caller: AdminCaller = { keyId: DROP_ACTOR, tenant: owner, scopes: [], grants, root: false };
  if (await deps.blobLedger.holds(digest, owner)) return ok({ parent, caller });
  const parts: BlobRecord['parts'] = [];
  let offset = 0;
  for (const [index, size] of partSizes(bytes.length).entries()) {
    const slice = bytes.subarray(offset, (offset += size));
    const part = await receivePart(deps, { digest, index, bytes: slice, sha256: null, tenant: owner });
    if (!part.ok) return part;
    parts.push({ bytes: part.value.bytes, sha256: part.value.sha256 });
  }
  const finished = await finishBlob(deps, { digest, record: { bytes: bytes.length, parts }, tenant: owner });
  return finished.ok ? ok({ parent, caller }) : finished;
}

const partSizes = (bytes: number): number[] =>
  Array.from({ length: Math.ceil(bytes / MAX_PART_BYTES) }, (_, index) =>
    Math.min(MAX_PART_BYTES, bytes - index * MAX_PART_BYTES),
  );

function parentChainOf(bytes: Uint8Array): Result<string | null, ApiError> {
  try {
    const reader = createHeadReader({ fileBytes: bytes.length, maxHeaderBytes: MAX_CHECKED_HEADER_BYTES });
    reader.push(bytes);
    return ok(reader.head().config.parent);
  } catch (error) {
    if (!(error instanceof AdapterFormatError)) throw error;
    const message = `This is not a packed adapter: ${error.message} Make one with \`graft pack\`.`;
    return err(adapterInvalid(error.code, message, error.subject));
  }
}

/**
 * @returns the owner of the name, or of the nearest reservation or name above it, and the nearest name above
 * with a live version.
 */
async function roomOf(
  deps: Pick<StoreDropDeps, 'registry' | 'dropTenant'>,
  name: string,
): Promise<{ owner: string; above: string | null }> {
  const around = await deps.registry.around(name);
  const owner = around.own ?? around.above?.owner ?? deps.dropTenant;
  for (let path = name; path.includes('/');) {
    path = path.slice(0, path.lastIndexOf('/'));
    if ((await deps.registry.name(path))?.version != null) return { owner, above: path };
  }
  return { owner, above: null };
}

/** Why a file was not taken, as `drop-error:<name>` tells it. */
export interface DropError {
  code: string;
  reason?: string;
  message: string;
  /** Unix ms. */
  at: number;
  /** It will be tried again as it is. */
  retrying: boolean;
}
