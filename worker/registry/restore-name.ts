import {
  err,
  ok,
  REMOVAL_GRACE_MS,
  type ApiError,
  type ChangedName,
  type RestoreAnswer,
  type RestoreRequest,
  type Result,
} from '../../protocol/index.ts';
import type { AdminCaller } from '../access/ports.ts';
import { conflict } from '../errors.ts';
import { changed, ownName } from './own-name.ts';
import { HISTORY_PAGE } from './limits.ts';
import type { RemovedName, RemovedVersion } from './ports-removals.ts';
import type { HistoryRow, NameRow, Registry } from './ports.ts';
import type { IntakeDeps } from './registry-deps.ts';
import { servedAnew } from './write-pointer.ts';

type RestoreDeps = Pick<IntakeDeps, 'registry' | 'pointers' | 'now'>;

const DAY_MS = 86_400_000;

/** What comes back at once. */
interface Restorable {
  names: RemovedName[];
  versions: RemovedVersion[];
}

/**
 * Brings back what was removed, as it was. Of a name that was removed, with all that went with it: the live version is
 * live again. Of one that is there, its removed versions, which then are not live. What an owner's version stands on must
 * be there, or come back with it.
 */
export async function restoreName(
  deps: RestoreDeps,
  params: { request: RestoreRequest; caller: AdminCaller },
): Promise<Result<RestoreAnswer, ApiError>> {
  const { request, caller } = params;
  const { name } = request;
  const version = request.version ?? null;
  const what = version === null ? name : `${name}@${version}`;
  const before = await ownName(deps, { name, caller, what, removed: true });
  if (!before.ok) return before;
  const since = deps.now() - REMOVAL_GRACE_MS;
  const found = await restorable(deps.registry, {
    ...{ row: before.value, version, cascade: request.cascade ?? false, since },
  });
  if (!found.ok) {
    const again =
      version !== null || request.dry_run === true ? null : await restoredBefore(deps, before.value);
    return again === null ? found : servedAnew(deps, { name, what: 'restoration' }, again);
  }
  const { names, versions } = found.value;
  const back = new Set(versions.map((one) => one.name));
  for (const { name: child, version: of, lacks } of versions) {
    const missing = lacks.find((parent) => !back.has(parent));
    if (missing !== undefined)
      return err(
        conflict(
          `'${child}@${of}' stands on an adapter of '${missing}' that is removed or retired. Restore '${missing}' first; with \`--cascade\` (\`"cascade": true\`) comes all that was removed with it.`,
        ),
      );
  }
  const dangling = await standsForRemoved(deps.registry, names);
  if (dangling !== null) return err(dangling);
  const answer: RestoreAnswer = { restored: removedTogether(found.value) };
  if (request.dry_run === true) return ok(answer);
  const rows = new Map<string, NameRow>([
    [name, before.value],
    ...names.map(({ row }) => [row.name, row] as const),
  ]);
  for (const one of versions) {
    const row = rows.get(one.name) ?? (await deps.registry.name(one.name));
    if (row !== null) rows.set(one.name, row);
  }
  const restored = await deps.registry.restore({
    names,
    versions: versions.flatMap((one) => {
      const row = rows.get(one.name);
      return row === undefined ? [] : [{ name: one.name, version: one.version, before: row }];
    }),
    ...{ actor: caller.keyId, at: deps.now(), why: request.why ?? null },
  });
  if (!restored.ok) return err(changed(name, restored.error.name));
  const whole = names.some(({ row }) => row.name === name);
  return servedAnew(deps, { name: whole ? name : null, what: 'restoration' }, answer);
}

/** An alias is never made of a name that is removed, and does not come back as one. */
async function standsForRemoved(registry: Registry, names: readonly RemovedName[]): Promise<ApiError | null> {
  const back = new Set(names.map(({ row }) => row.name));
  for (const { row, alias } of names) {
    const target = alias === null || back.has(alias) ? null : await registry.name(alias);
    if (target === null || target.removedAt === null || target.owner !== row.owner) continue;
    return conflict(
      `'${row.name}' stands for '${target.name}', which is removed. Restore '${target.name}' first; with \`--cascade\` (\`"cascade": true\`) comes all that was removed with it.`,
    );
  }
  return null;
}

/**
 * What has come back already, where KV is still to be told of it: the restoration was answered with 503, and is repeated.
 * @returns null when that is not so.
 */
async function restoredBefore(
  { registry }: RestoreDeps,
  { name, owner }: NameRow,
): Promise<RestoreAnswer | null> {
  const { change } = await registry.pointerToWrite(name);
  if (change === null) return null;
  const rows = await registry.history({ name: null, owner, before: change + 1, limit: HISTORY_PAGE });
  // One transaction: its rows follow one another, and `change` is the last.
  const end = rows.findIndex(({ action, at }) => action !== 'restore' || at !== rows[0]?.at);
  const back = (end === -1 ? rows : rows.slice(0, end)).toReversed();
  if (!back.some((row) => row.name === name)) return null;
  const restored: ChangedName[] = [];
  for (const one of new Set(back.map((row) => row.name))) {
    const own = back.filter((row) => row.name === one);
    const { to, target } = own[0] as HistoryRow;
    // A single version is never live when it comes back.
    const whole = own.length === 1 && to === ((await registry.name(one))?.version ?? null);
    const versions = whole
      ? (await registry.versions(one)).map((row) => row.version)
      : own.flatMap((row) => row.to ?? []);
    versions.sort((a, b) => a - b);
    restored.push({ name: one, whole, versions, live: whole ? to : null, alias: target });
  }
  return { restored };
}

async function restorable(
  registry: Registry,
  params: { row: NameRow; version: number | null; cascade: boolean; since: number },
): Promise<Result<Restorable, ApiError>> {
  const { row, version, cascade, since } = params;
  const { name } = row;
  const [removed] = await registry.removedNames({ name }, since);
  if (removed !== undefined && version !== null)
    return err(conflict(`All of '${name}' was removed. Restore '${name}', and not one version of it.`));
  if (removed !== undefined && !cascade) {
    const versions = (await registry.removedVersions({ name }, since)).filter(
      ({ removal }) => removal === removed.removal,
    );
    return ok({ names: [removed], versions });
  }
  const own = (await registry.removedVersions({ name }, since)).filter(
    (one) => version === null || one.version === version,
  );
  const removal = removed?.removal ?? own.at(-1)?.removal;
  if (removal === undefined)
    return err({
      code: 'not_found',
      message: `Nothing of '${version === null ? name : `${name}@${version}`}' can be restored: it was not removed, or more than ${REMOVAL_GRACE_MS / DAY_MS} days ago.`,
    });
  if (!cascade) return ok({ names: [], versions: own });
  const [names, versions] = await Promise.all([
    registry.removedNames({ removal }, since),
    registry.removedVersions({ removal }, since),
  ]);
  return ok({ names, versions });
}

/** One entry a name. */
export function removedTogether({ names, versions }: Restorable): ChangedName[] {
  const whole = new Map(names.map((one) => [one.row.name, one]));
  return [...new Set([...whole.keys(), ...versions.map(({ name }) => name)])].map((name) => ({
    name,
    whole: whole.has(name),
    versions: versions.filter((one) => one.name === name).map(({ version }) => version),
    live: whole.get(name)?.version ?? null,
    alias: whole.get(name)?.alias ?? null,
  }));
}
