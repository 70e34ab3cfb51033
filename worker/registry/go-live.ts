import type { PromoteRequest, LiveAnswer, RollbackRequest } from '../../protocol/admin-api/names.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { adapterNotFound, conflict } from '../errors.ts';
import type { AdminCaller } from '../access/ports.ts';
import {
  type NameRow,
  type VersionRow,
  GOES_LIVE,
  type HistoryRow,
  type Registry,
  type IntakeDeps,
  type RequestLife,
} from './ports.ts';
import { changed, ownName } from './own-name.ts';
import { writePointer } from './write-pointer.ts';
import { unlessDamaged } from './repair-names.ts';
import { HISTORY_PAGE } from './limits.ts';

export type GoLiveDeps = Pick<IntakeDeps, 'registry' | 'pointers' | 'warmth' | 'now'>;

/**
 * Makes another version live; any change since the name was read is a conflict. Running requests finish on
 * the version they started with.
 */
async function goLive(
  deps: GoLiveDeps,
  params: {
    request: Omit<PromoteRequest, 'version'> & { to: number };
    caller: AdminCaller;
    life: Pick<RequestLife, 'keepAlive'>;
    before: NameRow;
    action: 'promote' | 'rollback';
  },
): Promise<Result<LiveAnswer, ApiError>> {
  const { request, caller, before, action } = params;
  const { name, to } = request;
  const row = await deps.registry.version(name, to);
  if (row === null) return err(adapterNotFound(`${name}@${to}`));
  if (row.retiredAt !== null)
    return err(conflict(`'${name}@${to}' is retired and cannot be live. Publish its file again instead.`));
  if (row.withdrawnAt !== null)
    return err(
      conflict(`'${name}@${to}' depends on an adapter that its owner has retired, and cannot be live.`),
    );
  const expect = request.expect ?? null;
  if (expect !== null && expect !== (before.version ?? 0)) {
    const told = before.version === to ? await notServedYet(deps.registry, params) : null;
    if (told === null || expect !== (told.from ?? 0)) return err(changed(name, before));
  }
  const dryRun = request.dry_run ?? false;
  if (before.version !== to && !dryRun) {
    const note = { actor: caller.keyId, at: deps.now(), why: request.why ?? null };
    const flipped = await deps.registry.flip({ before, to, action, ...note });
    if (!flipped.ok) return err(changed(name, flipped.error.name));
  }
  if (!dryRun) {
    // Also if it was live already: an earlier attempt may have failed before its pointer.
    const written = await writePointer(deps, {
      ...{ name, what: action },
      // Once the pointer has been written in the background, a repetition without it would go back once more.
      ...(action === 'rollback' ? { as: `with \`to: ${to}\` (\`graft rollback ${name} --to ${to}\`)` } : {}),
    });
    if (!written.ok) return written;
    followResidents(deps, { from: before.version, to: row, life: params.life });
  }
  return ok({ name, version: to, from: before.version });
}

/**
 * The caller's last change, if KV does not have it yet: it was answered with 503, and this request repeats
 * it.
 */
export async function notServedYet(
  registry: Registry,
  params: { before: NameRow; caller: AdminCaller; action: 'publish' | 'drop' | 'promote' | 'rollback' },
): Promise<HistoryRow | null> {
  const { before, caller, action } = params;
  const { change } = await registry.pointerToWrite(before.name);
  if (change === null) return null;
  const [last] = await registry.history({ name: before.name, owner: null, before: change + 1, limit: 1 });
  const isIt = last?.id === change && last.action === action && last.actor === caller.keyId;
  return isIt && last.to === before.version ? last : null;
}

/**
 * When another version has gone live, loads it wherever the previous one is in memory, so that the next
 * request need not wait. The response does not wait for it, and its failure has no effect on the change.
 * @param params.from the previous live version; null = none.
 */
export function followResidents(
  deps: Pick<IntakeDeps, 'registry' | 'warmth'>,
  params: { from: number | null; to: VersionRow; life: Pick<RequestLife, 'keepAlive'> },
): void {
  const { from, to, life } = params;
  if (from === null || from === to.version) return;
  const follow = async (): Promise<void> => {
    const before = await unlessDamaged(deps.registry.version(to.name, from));
    if (before === null || before === 'damaged' || before.chainId === to.chainId) return;
    const chain = to.chain.map(({ digest, scale }) => ({ digest, scale }));
    // Not cancelled if the publisher disconnects: it helps the next requests.
    const { signal } = new AbortController();
    const next = { base: to.base.id, chain, signal, keepAlive: life.keepAlive };
    // No origin of another base has the previous version, so it is loaded where requests will be routed.
    if (before.base.id !== to.base.id) await deps.warmth.warm({ ...next, name: to.name });
    else await deps.warmth.follow({ ...next, was: before.digest });
  };
  life.keepAlive(follow());
}

/** Makes a staged version live. Repeating it is harmless. */
export async function promoteVersion(
  deps: GoLiveDeps,
  params: { request: PromoteRequest; caller: AdminCaller; life: Pick<RequestLife, 'keepAlive'> },
): Promise<Result<LiveAnswer, ApiError>> {
  const { caller, life } = params;
  const { version, ...request } = params.request;
  const what = version ? `${request.name}@${version}` : request.name;
  const before = await ownName(deps, { name: request.name, caller, what });
  if (!before.ok) return before;
  const live = before.value.version ?? 0;
  const staged = version ?? (await deps.registry.newestStaged(request.name))?.version ?? 0;
  // A staged version older than the live one was skipped, so it must be chosen by number.
  const to = version ?? (staged > live ? staged : before.value.latest === live ? live : 0);
  if (to === 0)
    return err(
      conflict(
        `'${request.name}' has no staged version above the live one (${live === 0 ? 'none' : live}). ` +
          `Name the version to promote, as '${request.name}@<version>'.`,
      ),
    );
  return goLive(deps, { request: { ...request, to }, caller, life, before: before.value, action: 'promote' });
}

/**
 * Makes the previous live version live, or any other one. A retry after 503 does not go back twice while the pointer is
 * not written, and never with the version that the 503 names.
 */
export async function rollbackVersion(
  deps: GoLiveDeps,
  params: { request: RollbackRequest; caller: AdminCaller; life: Pick<RequestLife, 'keepAlive'> },
): Promise<Result<LiveAnswer, ApiError>> {
  const { request, caller, life } = params;
  const what = request.to ? `${request.name}@${request.to}` : request.name;
  const before = await ownName(deps, { name: request.name, caller, what });
  if (!before.ok) return before;
  const live = before.value.version;
  const { registry } = deps;
  const again =
    request.to === undefined && request.expect !== (live ?? 0)
      ? await notServedYet(registry, { before: before.value, caller, action: 'rollback' })
      : null;
  const to =
    request.to ?? again?.to ?? (live === null ? null : await liveBefore(registry, request.name, live));
  if (to === null)
    return err(conflict(`'${request.name}' has no earlier version that was live and is not retired.`));
  return goLive(deps, {
    request: { ...request, to },
    caller,
    life,
    before: before.value,
    action: 'rollback',
  });
}

/**
 * The version before `live`, ignoring rollbacks: two rollbacks in a row go two steps back, not back and
 * forth.
 */
async function liveBefore(registry: Registry, name: string, live: number): Promise<number | null> {
  /**
   * Version -> the one that was live before it. Rollbacks count only for versions that nothing else made
   * live.
   */
  const forward = new Map<number, number | null>();
  const back = new Map<number, number | null>();
  for await (const { action, from, to } of changesOf(registry, name)) {
    const steps = action === 'rollback' ? back : forward;
    if (to !== null && GOES_LIVE.includes(action) && !steps.has(to)) steps.set(to, from);
  }
  const previous = (version: number) =>
    (forward.has(version) ? forward.get(version) : back.get(version)) ?? null;
  const seen = new Set([live]);
  for (let version = previous(live); version !== null && !seen.has(version);) {
    const row = await registry.version(name, version);
    if (row !== null && row.retiredAt === null && row.withdrawnAt === null) return version;
    seen.add(version);
    version = previous(version);
  }
  return null;
}

/** Newest first. */
async function* changesOf(registry: Registry, name: string): AsyncGenerator<HistoryRow> {
  for (let before: number | null = null; ;) {
    const page: HistoryRow[] = await registry.history({ name, owner: null, before, limit: HISTORY_PAGE });
    yield* page;
    if (page.length < HISTORY_PAGE) return;
    before = page.at(-1)?.id ?? null;
  }
}
