import type { ApiError } from '../../protocol/index.ts';
import { modelNotFound } from '../errors.ts';
import { MAX_SUGGESTIONS, SUGGESTION_CANDIDATES } from './limits.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import type { Caller } from '../access/ports.ts';
import { usableIn, windowOf, type ListDeps } from './usable-names.ts';

export interface ExplainDeps extends ListDeps {
  /** May this key be given suggestions now? */
  maySuggest: (keyId: string) => boolean;
}

/**
 * The same answer for unknown and forbidden names: suggestions come only from what the caller may use, and cost two
 * reads of the system of record, however many names there are.
 */
export async function explainNotFound(deps: ExplainDeps, caller: Caller, model: string): Promise<ApiError> {
  const names = deps.maySuggest(caller.keyId) ? await candidates(deps, caller, model) : [];
  return modelNotFound(model, nearestNames(model, names, MAX_SUGGESTIONS));
}

/** What is mistyped at the end of a name lies this near, characters, … */
const MISTYPED_END = 3;

/** … or else in the room of the name, or among the first names that the caller may use at all. */
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
    // Suggestions are a courtesy: without the database the answer is the same, less them.
    if (error instanceof StoreUnavailable) return [];
    throw error;
  }
}

/** Edits farther than this share of the longer name are no likeness. */
const MAX_DISTANCE_SHARE = 0.5;
/** Longer ones are not compared: a path has any length, and comparing takes the product of both. */
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

/** @returns at most `limit` of `candidates` that resemble `name`, neither longer than {@link MAX_COMPARED}, nearest first, ties by the alphabet. */
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
 * Counts how often each key was given suggestions in this second.
 * @param params.maxKeys that are counted in a second; further ones get none, so that memory has an end.
 * @returns whether the key may be given some now.
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
