import {
  err,
  type ApiError,
  type LiveAnswer,
  type Result,
  type RollbackRequest,
} from '../../protocol/index.ts';
import { conflict } from '../errors.ts';
import { HISTORY_PAGE } from './limits.ts';
import { GOES_LIVE, type HistoryRow, type Registry } from './ports.ts';
import type { AdminCaller } from '../access/ports.ts';
import { goLive, type GoLiveDeps } from './go-live.ts';
import { ownName } from './own-name.ts';
import type { RequestLife } from './registry-deps.ts';

/** Makes the version live that was live before, or any other one. */
export async function rollbackVersion(
  deps: GoLiveDeps,
  params: { request: RollbackRequest; caller: AdminCaller; life: Pick<RequestLife, 'keepAlive'> },
): Promise<Result<LiveAnswer, ApiError>> {
  const { request, caller, life } = params;
  const what = request.to ? `${request.name}@${request.to}` : request.name;
  const before = await ownName(deps, { name: request.name, caller, what });
  if (!before.ok) return before;
  const live = before.value.version;
  const to = request.to ?? (live === null ? null : await liveBefore(deps.registry, request.name, live));
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
 * The version that was live when `live` became so by something else than a rollback: two rollbacks in a row go two
 * steps back, not back and forth.
 */
async function liveBefore(registry: Registry, name: string, live: number): Promise<number | null> {
  /** Version -> what was live before it; of rollbacks only for versions that nothing else made live. */
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
