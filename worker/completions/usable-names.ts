/** Names that a caller may use: lists, and suggestions for a missing one. */
import type { ApiError } from '../../protocol/api-error.ts';
import { mayUse, mayUseChain, type Rights, usableRanges } from '../access/authenticate.ts';
import type { Caller } from '../access/ports.ts';
import type { GrantLedger } from '../access/d1-grants.ts';
import { modelNotFound } from '../errors.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { NameWindow, Registry, UsableName } from '../registry/ports.ts';
import { MAX_LIST_READS, MAX_OVERLAPPING_GIVERS, MAX_SUGGESTIONS, SUGGESTION_CANDIDATES } from './limits.ts';

export interface ListDeps {
  registry: Registry;
  grantLedger: GrantLedger;
}

/** Sorts after all names that begin with `prefix`; names are ASCII. */
const endOf = (prefix: string): string => `${prefix}\u007f`;

/**
 * All names that begin with `prefix`.
 * @param limit names to scan.
 */
export const windowOf = (prefix: string, limit: number): NameWindow => ({
  from: prefix,
  to: endOf(prefix),
  limit,
});

const usable = (rights: Rights) => (row: UsableName) =>
  mayUse(rights, row) && mayUseChain(rights, row.version);

/**
 * Names in the windows whose whole chain may be used; one read of the registry. An alias is listed only if it
 * and its target are within the caller's rights: others work too, for those who know their names.
 * @throws StoreUnavailable
 */
export async function usableIn(
  { registry }: Pick<ListDeps, 'registry'>,
  rights: Rights,
  windows: readonly NameWindow[],
): Promise<UsableName[]> {
  const { tenant } = rights;
  const layers = usableRanges(rights, MAX_OVERLAPPING_GIVERS);
  const answers = await registry.usable({ tenant, layers, windows });
  return answers.flatMap(({ names }) => names).filter(usable(rights));
}

/**
 * The first `wanted` of them after `after`, or as many as {@link MAX_LIST_READS} reads find.
 * @returns `more`: where to continue if there are, or may be, more.
 * @throws StoreUnavailable
 */
export async function usableNames(
  { registry }: Pick<ListDeps, 'registry'>,
  rights: Rights,
  params: { prefix: string; after: string; wanted: number },
): Promise<{ names: UsableName[]; more: string | null }> {
  const { prefix, wanted } = params;
  const { tenant } = rights;
  const layers = usableRanges(rights, MAX_OVERLAPPING_GIVERS);
  const found: UsableName[] = [];
  let after: string | null = params.after;
  for (let read = 0; read < MAX_LIST_READS && found.length <= wanted && after !== null; read += 1) {
    // A space sorts before all characters of names.
    const from: string = after < prefix ? prefix : `${after} `;
    // One more than wanted, to see whether there are more.
    const window = { from: after === '' ? prefix : from, to: endOf(prefix), limit: wanted + 1 };
    const [page] = await registry.usable({ tenant, layers, windows: [window] });
    found.push(...(page?.names ?? []).filter(usable(rights)));
    after = page?.end ?? null;
  }
  const names = found.slice(0, wanted);
  if (found.length > wanted) return { names, more: names.at(-1)?.name ?? null };
  // The cursor is a usable name if there is one, otherwise one that was only scanned.
  return { names, more: after === null ? null : (names.at(-1)?.name ?? after) };
}

export interface ExplainDeps extends ListDeps {
  /** May this key get suggestions now? */
  maySuggest: (keyId: string) => boolean;
}

/**
 * The same error for missing and forbidden names. Suggestions contain only what the caller may use, and take
 * two reads of the system of record, however many names there are.
 */
export async function explainNotFound(deps: ExplainDeps, caller: Caller, model: string): Promise<ApiError> {
  const names = deps.maySuggest(caller.keyId) ? await candidates(deps, caller, model) : [];
  return modelNotFound(model, nearestNames(model, names, MAX_SUGGESTIONS));
}

/** Typos are looked for among names that differ only in this many last characters, … */
const MISTYPED_END = 3;

/** … then in the name's parent, or else among the first names that the caller may use at all. */
function prefixesOf(model: string): string[] {
  if (!/^[a-z0-9._/-]+$/.test(model)) return [''];
  const room = model.slice(0, model.lastIndexOf('/') + 1);
  const near = model.slice(0, Math.max(room.length, model.length - MISTYPED_END));
  return [...new Set([near, room, ''])];
}

async function candidates(deps: ExplainDeps, caller: Caller, model: string): Promise<string[]> {
  try {
    const rights = { ...caller, grants: await deps.grantLedger.usableBy(caller.tenant) };
    const windows = prefixesOf(model).map((prefix) => windowOf(prefix, SUGGESTION_CANDIDATES));
    return [...new Set((await usableIn(deps, rights, windows)).map(({ name }) => name))];
  } catch (error) {
    // Suggestions are optional: without the database, the error has none.
    if (error instanceof StoreUnavailable) return [];
    throw error;
  }
}

/** Names whose distance exceeds this share of the longer one are not similar. */
const MAX_DISTANCE_SHARE = 0.5;
/** Longer ones are not compared: a path has any length, and the cost is the product of both. */
const MAX_COMPARED = 128;

/** Levenshtein distance; O(a*b), names have at most 256 characters. */
export function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const change = previous[column - 1]! + (a[row - 1] === b[column - 1] ? 0 : 1);
      current.push(Math.min(change, previous[column]! + 1, current[column - 1]! + 1));
    }
    previous = current;
  }
  return previous[b.length]!;
}

/**
 * @returns at most `limit` similar `candidates`, neither they nor `name` longer than {@link MAX_COMPARED},
 * nearest first, ties in alphabetical order.
 */
export function nearestNames(name: string, candidates: readonly string[], limit: number): string[] {
  if (name.length > MAX_COMPARED) return [];
  return candidates
    .filter((candidate) => candidate.length <= MAX_COMPARED)
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .filter(
      ({ candidate, distance }) => distance <= Math.max(candidate.length, name.length) * MAX_DISTANCE_SHARE,
    )
    .sort((a, b) => a.distance - b.distance || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, limit)
    .map(({ candidate }) => candidate);
}

const SECOND_MS = 1_000;

/**
 * Limits how often each key gets suggestions in a second.
 * @param params.maxKeys counted in a second; further ones get none, which bounds memory.
 * @returns whether the key may get some now.
 */
export function createSuggestionBudget(params: {
  perSecond: number;
  maxKeys: number;
  now: () => number;
}): (keyId: string) => boolean {
  const { perSecond, maxKeys, now } = params;
  let second = -1;
  let counts = new Map<string, number>();
  return (keyId) => {
    const current = Math.floor(now() / SECOND_MS);
    if (current !== second) {
      second = current;
      counts = new Map();
    }
    const count = counts.get(keyId) ?? 0;
    if (count >= perSecond || (count === 0 && counts.size >= maxKeys)) return false;
    counts.set(keyId, count + 1);
    return true;
  };
}
