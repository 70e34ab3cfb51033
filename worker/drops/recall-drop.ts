import { DROP_SETTLE_MS, DROP_STALE_MS } from './limits.ts';
import type { DropRow } from './ports.ts';

/**
 * `new`: nobody decided on this file, or it was put there again after it had gone; `known`: leave it; `settled`: it was
 * taken, and what lies there now may be removed; `last`: it was refused, and is looked at once more before it is removed,
 * since what it lacked, such as its parent, may have come meanwhile.
 */
export type Recalled = { kind: 'new' } | { kind: 'known' | 'settled' | 'last'; row: DropRow };

/**
 * What a file just read from KV is. KV goes on showing what was removed or replaced for a while, elsewhere longer than
 * here: a file that has gone by our own books counts as gone only when no location can show it any more.
 * @param rows of its name, newest first. @param now unix ms.
 */
export function recallDrop(rows: readonly DropRow[], sha256: string, now: number): Recalled {
  const place = rows.findIndex((row) => row.sha256 === sha256);
  const row = rows[place];
  if (row === undefined) return { kind: 'new' };
  const followedAt = rows[place - 1]?.at ?? null;
  // To refuse once more what was refused last does no harm, so whoever brings it again need not wait.
  if (row.version === null && row.removedAt !== null && followedAt === null) return { kind: 'new' };
  const goneAt = followedAt ?? row.removedAt;
  if (goneAt !== null) return now - goneAt < DROP_STALE_MS ? { kind: 'known', row } : { kind: 'new' };
  if (now - row.at < DROP_SETTLE_MS) return { kind: 'known', row };
  return { kind: row.version === null ? 'last' : 'settled', row };
}
