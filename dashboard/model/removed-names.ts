/** What was removed and can be brought back, by the history of names. */
import type { ChangeView } from '../../protocol/admin-api/history.ts';
import { REMOVAL_GRACE_MS } from '../../protocol/admin-api/removals.ts';

export interface Removed {
  readonly name: string;
  /** null = the whole name. */
  readonly version: number | null;
  /** Unix ms. */
  readonly at: number;
}

/**
 * @param changes newest first. @param now unix ms.
 * @returns newest first; what was restored, or published anew, since is not among them.
 */
export function removedLately(changes: readonly ChangeView[], now: number): Removed[] {
  const found: Removed[] = [];
  /** Names with a later change: they are there again, or their removal is that change. */
  const changed = new Set<string>();
  /** Versions that were restored, or removed once more, later. */
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
