/** Removes names and versions, and restores them. */
import {
  REMOVAL_GRACE_MS,
  type ChangedName,
  type RemoveAnswer,
  type RemoveRequest,
  type RestoreAnswer,
  type RestoreRequest,
} from '../../protocol/admin-api/names.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import type { AdminCaller } from '../access/ports.ts';
import { adapterNotFound, conflict } from '../errors.ts';
import { changed, ownName } from './own-name.ts';
import { MAX_DEPENDENTS_TOLD, MAX_REMOVED_AT_ONCE, HISTORY_PAGE } from './limits.ts';
import type {
  Descendant,
  Doomed,
  Holders,
  NameRow,
  RemovedName,
  RemovedVersion,
  HistoryRow,
  Registry,
  IntakeDeps,
} from './ports.ts';
import { servedAnew } from './write-pointer.ts';

type RemoveDeps = Pick<IntakeDeps, 'registry' | 'pointers' | 'now'>;
type Item = Doomed & { before: NameRow };

/**
 * Removes a name, or one version that is not live. It is invisible until it can no longer be restored, and
 * then gone for good. What the same owner has built on it prevents the removal. With `cascade`, it is removed
 * too: names whose live version is built on it, single versions of other names, aliases, pins. The owner's
 * experiments always prevent it. Others' versions built on it are only counted; with `cascade` they are no
 * longer served.
 */
export async function removeName(
  deps: RemoveDeps,
  params: { request: RemoveRequest; caller: AdminCaller },
): Promise<Result<RemoveAnswer, ApiError>> {
  const { request, caller } = params;
  const { name } = request;
  const version = request.version ?? null;
  const what = version === null ? name : `${name}@${version}`;
  const serve = (answer: RemoveAnswer) =>
    servedAnew(deps, { name: version === null ? name : null, what: 'removal' }, answer);
  const before = await ownName(deps, { name, caller, what, removed: true });
  if (!before.ok) return before;
  if (before.value.removedAt !== null) {
    const answer = version === null ? await removedBefore(deps, before.value) : null;
    if (answer === null) return err(adapterNotFound(what));
    return request.dry_run === true ? ok(answer) : serve(answer);
  }
  if (version !== null && (await deps.registry.version(name, version)) === null)
    return err(adapterNotFound(what));
  if (version !== null && before.value.version === version)
    return err(
      conflict(
        `'${what}' is live. Promote another version before you remove it, or remove '${name}' as a whole.`,
      ),
    );
  const { owner } = before.value;
  const cascade = request.cascade ?? false;
  const first: Item = { name, version, before: before.value };
  const planned = await (cascade ? withAllBelow(deps, first) : ok([first]));
  if (!planned.ok) return planned;
  const items = planned.value;
  const held = await deps.registry.holders({ items, owner });
  const below = await deps.registry.descendants({ items, owner, limit: MAX_DEPENDENTS_TOLD + 1 });
  const refusal = refusalOf(what, held, below, cascade);
  if (refusal !== null) return err(conflict(refusal));
  const at = deps.now();
  const answer: RemoveAnswer = {
    removed: await changedNames(deps, items),
    unpinned: held.pins,
    stops: held.others,
    removed_at: at,
    restorable_until: at + REMOVAL_GRACE_MS,
  };
  if (request.dry_run === true) return ok(answer);
  const note = { actor: caller.keyId, at, why: request.why ?? null };
  const removed = await deps.registry.remove({ items, owner, cascade, ...note });
  if (!removed.ok) return err(changed(name, removed.error.name));
  return serve(answer);
}

/**
 * The result of an earlier removal that KV does not have yet: it was answered with 503 and is repeated.
 * @returns null otherwise.
 */
async function removedBefore(
  { registry, now }: RemoveDeps,
  { name, removedAt }: NameRow,
): Promise<RemoveAnswer | null> {
  const since = now() - REMOVAL_GRACE_MS;
  const [own] = await registry.removedNames({ name }, since);
  if (own === undefined || removedAt === null || (await registry.pointerToWrite(name)).change === null)
    return null;
  const { removal } = own;
  const [names, versions] = await Promise.all([
    registry.removedNames({ removal }, since),
    registry.removedVersions({ removal }, since),
  ]);
  const removed = removedTogether({ names, versions });
  removed.sort((a, b) => Number(b.name === name) - Number(a.name === name));
  return {
    ...{ removed, unpinned: [], stops: { versions: 0, experiments: 0 } },
    ...{ removed_at: removedAt, restorable_until: removedAt + REMOVAL_GRACE_MS },
  };
}

/** Everything of the owner built on the first item, directly or not, then all aliases of these. */
async function withAllBelow({ registry }: RemoveDeps, first: Item): Promise<Result<Item[], ApiError>> {
  const { owner } = first.before;
  const items = [first];
  const add = async (name: string, version: number | null): Promise<void> => {
    const before = await registry.name(name);
    if (before !== null) items.push({ name, version, before });
  };
  for (;;) {
    const found = await registry.descendants({ items, owner, limit: MAX_REMOVED_AT_ONCE + 1 });
    if (items.length + found.length > MAX_REMOVED_AT_ONCE) return err(tooMany(first.name));
    if (found.length === 0) break;
    for (const name of namesOf(found)) {
      const versions = found.filter((one) => one.name === name);
      // A name that loses its live version, or all versions, is removed.
      const gone = versions.some(({ live, versions: all }) => live || all === versions.length);
      if (gone) await add(name, null);
      else for (const { version } of versions) await add(name, version);
    }
  }
  const { aliases } = await registry.holders({ items, owner });
  if (items.length + aliases.length > MAX_REMOVED_AT_ONCE) return err(tooMany(first.name));
  for (const alias of aliases) await add(alias, null);
  return ok(items);
}

const namesOf = (items: readonly { name: string }[]): Set<string> => new Set(items.map(({ name }) => name));

const tooMany = (name: string): ApiError =>
  conflict(
    `More than ${MAX_REMOVED_AT_ONCE} names and versions depend on '${name}', more than can be removed ` +
      'at once. Remove what is below it first.',
  );

/** One entry per name, in the items' order. */
async function changedNames({ registry }: RemoveDeps, items: readonly Item[]): Promise<ChangedName[]> {
  const found: ChangedName[] = [];
  for (const name of namesOf(items)) {
    const of = items.filter((item) => item.name === name);
    const { version, alias } = (of[0] as Item).before;
    const whole = of.some((item) => item.version === null);
    const versions = whole
      ? (await registry.versions(name)).map((row) => row.version)
      : of.flatMap((item) => item.version ?? []);
    versions.sort((a, b) => a - b);
    found.push({ name, whole, versions, live: whole ? version : null, alias });
  }
  return found;
}

function endingOf([first = '', ...others]: readonly string[]): string {
  const [what, id] = others.length === 0 ? ['it', first] : ['them', '<id>'];
  return `End ${what} first: \`graft experiment stop ${id}\`, then \`graft experiment archive ${id}\`.`;
}

/** @returns null if nothing prevents it. */
function refusalOf(
  what: string,
  { aliases, pins, experiments, others }: Holders,
  below: readonly Descendant[],
  cascade: boolean,
): string | null {
  const listed = (ids: readonly string[]): string =>
    ids.slice(0, MAX_DEPENDENTS_TOLD).join(', ') + (ids.length > MAX_DEPENDENTS_TOLD ? ' and others' : '');
  const counted = (count: number, one: string): string[] =>
    count === 0 ? [] : [`${count} ${one}${count === 1 ? '' : 's'} of other tenants`];
  const kept = [
    ...(below.length === 0
      ? []
      : [`Built on it: ${listed(below.map(({ name, version }) => `${name}@${version}`))}`]),
    ...(cascade ? [] : counted(others.versions, 'version').map((text) => `Built on it: ${text}`)),
    ...(aliases.length === 0 ? [] : [`Aliases of it: ${listed(aliases)}`]),
    ...(cascade || pins.length === 0 ? [] : [`Pinned in the origins' memory: ${listed(pins)}`]),
  ];
  const tested = [
    ...(experiments.length === 0 ? [] : [`Tested by ${listed(experiments)}`]),
    ...(cascade ? [] : counted(others.experiments, 'experiment').map((text) => `Tested by ${text}`)),
  ];
  if (kept.length + tested.length === 0) return null;
  const advice = [
    ...(experiments.length === 0 ? [] : [endingOf(experiments)]),
    ...(cascade || kept.length + others.experiments === 0
      ? []
      : [
          'Remove those first, or everything at once with `--cascade` (`"cascade": true`); other ' +
            "tenants' adapters that depend on it are then no longer served.",
        ]),
  ];
  return `'${what}' is in use and was not removed. ${[...kept, ...tested].join('. ')}. ${advice.join(' ')}`;
}

type RestoreDeps = Pick<IntakeDeps, 'registry' | 'pointers' | 'now'>;

const DAY_MS = 86_400_000;

/** What is restored together. */
interface Restorable {
  names: RemovedName[];
  versions: RemovedVersion[];
}

/**
 * Restores what was removed. A removed name returns with everything removed along with it, and its live
 * version is live again. Removed versions of an existing name return, but not as live. Versions of the same
 * owner that a version is built on must exist or be restored with it.
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
          `'${child}@${of}' depends on an adapter of '${missing}' that is removed or retired. Restore ` +
            `'${missing}' first, or use \`--cascade\` (\`"cascade": true\`) to restore everything that ` +
            'was removed with it.',
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

/** A removed name cannot become an alias's target, so such an alias cannot be restored either. */
async function standsForRemoved(registry: Registry, names: readonly RemovedName[]): Promise<ApiError | null> {
  const back = new Set(names.map(({ row }) => row.name));
  for (const { row, alias } of names) {
    const target = alias === null || back.has(alias) ? null : await registry.name(alias);
    if (target === null || target.removedAt === null || target.owner !== row.owner) continue;
    return conflict(
      `'${row.name}' is an alias of '${target.name}', which is removed. Restore '${target.name}' ` +
        'first, or use `--cascade` (`"cascade": true`) to restore everything that was removed with ' +
        'it.',
    );
  }
  return null;
}

/**
 * The result of an earlier restoration that KV does not have yet: it was answered with 503 and is repeated.
 * @returns null otherwise.
 */
async function restoredBefore(
  { registry }: RestoreDeps,
  { name, owner }: NameRow,
): Promise<RestoreAnswer | null> {
  const { change } = await registry.pointerToWrite(name);
  if (change === null) return null;
  const rows = await registry.history({ name: null, owner, before: change + 1, limit: HISTORY_PAGE });
  // One transaction's rows are consecutive, and `change` is its last.
  const end = rows.findIndex(({ action, at }) => action !== 'restore' || at !== rows[0]?.at);
  const back = (end === -1 ? rows : rows.slice(0, end)).toReversed();
  if (!back.some((row) => row.name === name)) return null;
  const restored: ChangedName[] = [];
  for (const one of new Set(back.map((row) => row.name))) {
    const own = back.filter((row) => row.name === one);
    const { to, target } = own[0] as HistoryRow;
    // Restoring a single version never makes it live.
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
    return err(conflict(`All of '${name}' was removed. Restore '${name}', not a single version.`));
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
      message:
        `Nothing of '${version === null ? name : `${name}@${version}`}' can be restored: it was not ` +
        `removed, or more than ${REMOVAL_GRACE_MS / DAY_MS} days ago.`,
    });
  if (!cascade) return ok({ names: [], versions: own });
  const [names, versions] = await Promise.all([
    registry.removedNames({ removal }, since),
    registry.removedVersions({ removal }, since),
  ]);
  return ok({ names, versions });
}

/** One entry per name. */
function removedTogether({ names, versions }: Restorable): ChangedName[] {
  const whole = new Map(names.map((one) => [one.row.name, one]));
  return [...new Set([...whole.keys(), ...versions.map(({ name }) => name)])].map((name) => ({
    name,
    whole: whole.has(name),
    versions: versions.filter((one) => one.name === name).map(({ version }) => version),
    live: whole.get(name)?.version ?? null,
    alias: whole.get(name)?.alias ?? null,
  }));
}
