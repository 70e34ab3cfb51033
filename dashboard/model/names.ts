/** Names in lists: search, tree, removals and inheritance. */
import { type ChangeView, type NameView, REMOVAL_GRACE_MS } from '../../protocol/admin-api/names.ts';
import type { VersionList, VersionView } from '../../protocol/admin-api/versions.ts';
import { VERSION_STATE_WORDS, versionState } from '../../protocol/state-words.ts';

/** The order in which people count. */
const NATURAL = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });

/** `v2` before `v10`; ties are broken by character order. */
export const byName = (a: string, b: string): number => NATURAL.compare(a, b) || (a < b ? -1 : Number(a > b));

/** @param text parts of the name, separated by spaces, in any order. */
export function isFound(name: string, text: string): boolean {
  const small = name.toLowerCase();
  return text
    .toLowerCase()
    .split(/\s+/)
    .every((part) => small.includes(part));
}

/** How well a name matches: in its last segment, at its beginning, or anywhere; smaller is better. */
export function fit(name: string, text: string): number {
  const [first = ''] = text.toLowerCase().trim().split(/\s+/);
  const small = name.toLowerCase();
  const last = small.slice(small.lastIndexOf('/') + 1);
  return small === first ? 0 : last.startsWith(first) ? 1 : small.startsWith(first) ? 2 : 3;
}

export interface NameNode {
  /** Last segment of `path`. */
  readonly segment: string;
  readonly path: string;
  /** null = no version exists at this exact path. */
  readonly entry: NameView | null;
  readonly children: readonly NameNode[];
}

interface Growing {
  segment: string;
  path: string;
  entry: NameView | null;
  children: Map<string, Growing>;
}

/** @param entries in any order. @returns the topmost segments, each level in its natural order. */
export function nameTree(entries: readonly NameView[]): NameNode[] {
  const root: Growing = { segment: '', path: '', entry: null, children: new Map() };
  for (const entry of entries) {
    let node = root;
    for (const segment of entry.name.split('/')) {
      let child = node.children.get(segment);
      if (child === undefined) {
        const path = node.path === '' ? segment : `${node.path}/${segment}`;
        child = { segment, path, entry: null, children: new Map() };
        node.children.set(segment, child);
      }
      node = child;
    }
    node.entry = entry;
  }
  return finished(root);
}

const finished = ({ children }: Growing): NameNode[] =>
  [...children.values()]
    .sort((a, b) => byName(a.segment, b.segment))
    .map((child) => ({ ...child, children: finished(child) }));

/** Names at and below the node. */
export const countNames = ({ entry, children }: NameNode): number =>
  (entry === null ? 0 : 1) + children.reduce((sum, child) => sum + countNames(child), 0);

/** An entry of a list that an input suggests. */
export interface Suggestion {
  readonly value: string;
  /** State and description; '' = nothing is known. */
  readonly about: string;
}

/** @returns such as `@1 live, newest @2. Sorts tickets`. */
export function suggestName({ name, version, latest, alias, description }: NameView): Suggestion {
  const state =
    alias !== null
      ? `alias of ${alias}`
      : version === null
        ? 'nothing live'
        : `@${version} live${latest > version ? `, newest @${latest}` : ''}`;
  return { value: name, about: description === null ? state : `${state}. ${description}` };
}

/** Versions that may be used, with their states. @param value such as `2` or `team/name@2`. */
export const suggestVersions = (
  { versions, version: live }: Pick<VersionList, 'versions' | 'version'>,
  wasLive: ReadonlySet<number>,
  value: (version: VersionView) => string,
): Suggestion[] =>
  versions
    .filter((one) => one.retired_at === null && one.withdrawn_at === null)
    .map((one) => ({
      value: value(one),
      about: VERSION_STATE_WORDS[versionState(one, live, wasLive.has(one.version))],
    }));

interface Removed {
  readonly name: string;
  /** null = the whole name. */
  readonly version: number | null;
  /** Unix ms. */
  readonly at: number;
}

/**
 * @param changes newest first. @param now unix ms.
 * @returns newest first, without what was restored or published again since.
 */
export function removedLately(changes: readonly ChangeView[], now: number): Removed[] {
  const found: Removed[] = [];
  /** Names with a later change: they exist again, or their removal is that change. */
  const changed = new Set<string>();
  /** Versions that were restored, or removed again, later. */
  const settled = new Set<string>();
  const gone = new Set<string>();
  for (const { name, action, to, at } of changes) {
    const version = `${name}@${to}`;
    const isOpen = to === null ? !changed.has(name) : !settled.has(version) && !gone.has(name);
    if (action === 'remove' && isOpen && now - at < REMOVAL_GRACE_MS) found.push({ name, version: to, at });
    changed.add(name);
    if (action === 'remove' || action === 'restore') settled.add(version);
    if (action === 'remove' && to === null) gone.add(name);
  }
  return found;
}

/** The names that a version is built on, root first, without its own; scales other than 1 are shown. */
export const inheritedFrom = ({ chain }: VersionView): { name: string; scale: number }[] =>
  chain.slice(0, -1).map(({ name, scale }) => ({ name, scale }));

/** Those of `others` whose live version is built on an adapter of `name`. */
export const heirsOf = (name: string, others: readonly VersionList[]): string[] =>
  others
    .filter((other) =>
      other.versions.some(
        (version) => version.live && inheritedFrom(version).some((one) => one.name === name),
      ),
    )
    .map((other) => other.name);
