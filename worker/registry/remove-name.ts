import {
  err,
  ok,
  REMOVAL_GRACE_MS,
  type ApiError,
  type ChangedName,
  type RemoveAnswer,
  type RemoveRequest,
  type Result,
} from '../../protocol/index.ts';
import type { AdminCaller } from '../access/ports.ts';
import { adapterNotFound, conflict } from '../errors.ts';
import { changed, ownName } from './own-name.ts';
import { MAX_DEPENDENTS_TOLD, MAX_REMOVED_AT_ONCE } from './limits.ts';
import type { Descendant, Doomed, Holders } from './ports-removals.ts';
import type { NameRow } from './ports.ts';
import type { IntakeDeps } from './registry-deps.ts';
import { removedTogether } from './restore-name.ts';
import { servedAnew } from './write-pointer.ts';

type RemoveDeps = Pick<IntakeDeps, 'registry' | 'pointers' | 'now'>;
type Item = Doomed & { before: NameRow };

/**
 * Removes a name, or one version that is not live, for as long as it can be restored out of everybody's sight, and then
 * for good. What the same owner has on it stands in the way, and with `cascade` goes as well: names of which the live
 * version stands on it, single versions of others, aliases, pins. Experiments of theirs always do. What others have made
 * with it is only counted; with `cascade` it is not served any more.
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
        `'${what}' is live. Make another version live before it is removed, or remove '${name}' as a whole.`,
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
 * What is removed already, where KV is still to be told of it: the removal was answered with 503, and is repeated.
 * @returns null when that is not so.
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

/** What of the owner stands on the first item, and on that, until nothing is found; then the aliases of all of it. */
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
      // What is left without a live version, or with none, is gone as a name.
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
    `More than ${MAX_REMOVED_AT_ONCE} names and versions stand on '${name}', more than are removed at once. Remove what is below it first.`,
  );

/** One entry a name, in the items' order. */
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

/** @returns null when nothing stands in the way. */
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
      : [`Made on top of it: ${listed(below.map(({ name, version }) => `${name}@${version}`))}`]),
    ...(cascade ? [] : counted(others.versions, 'version').map((text) => `Made on top of it: ${text}`)),
    ...(aliases.length === 0 ? [] : [`Standing for it: ${listed(aliases)}`]),
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
          'Remove those first, or all at once with `--cascade` (`"cascade": true`); what other tenants have made is then not served any more.',
        ]),
  ];
  return `'${what}' is in use and was not removed. ${[...kept, ...tested].join('. ')}. ${advice.join(' ')}`;
}
