import { describe, expect, it } from 'vitest';
import { recallDrop } from '../../../worker/kv-inbox/take-drops.ts';
import { DROP_SETTLE_MS, DROP_STALE_MS } from '../../../worker/kv-inbox/limits.ts';
import type { DropRow } from '../../../worker/kv-inbox/d1-drop-ledger.ts';

const row = (sha256: string, more: Partial<DropRow> = {}): DropRow => ({
  name: 'a',
  sha256,
  version: 1,
  at: 0,
  removedAt: null,
  ...more,
});
const kind = (rows: DropRow[], sha256: string, now: number) => recallDrop(rows, sha256, now).kind;

describe('a file that was seen before', () => {
  it('is new when nobody decided on it', () => {
    expect(kind([], 'x', 5)).toBe('new');
    expect(kind([row('y')], 'x', 5)).toBe('new');
  });

  it('lies until no read can come from the cache of the first one, and then goes', () => {
    expect(kind([row('x')], 'x', DROP_SETTLE_MS - 1)).toBe('known');
    expect(kind([row('x')], 'x', DROP_SETTLE_MS)).toBe('settled');
  });

  it('is looked at once more before it goes when it was refused', () => {
    const refused = row('x', { version: null });
    expect(kind([refused], 'x', DROP_SETTLE_MS - 1)).toBe('known');
    expect(kind([refused], 'x', DROP_SETTLE_MS)).toBe('last');
  });

  it('is not taken again while a location may still show what was removed', () => {
    const removed = [row('x', { removedAt: 50_000 })];
    expect(kind(removed, 'x', 50_000 + DROP_STALE_MS - 1)).toBe('known');
    expect(kind(removed, 'x', 50_000 + DROP_STALE_MS)).toBe('new');
  });

  it('is not put over a later file that took its place', () => {
    for (const version of [1, null]) {
      const rows = [row('y', { at: 60_000 }), row('x', { version })];
      expect(kind(rows, 'x', 60_000 + DROP_STALE_MS - 1)).toBe('known');
      expect(kind(rows, 'x', 60_000 + DROP_STALE_MS)).toBe('new');
    }
  });

  it('need not wait when it was refused and removed', () => {
    expect(kind([row('x', { version: null, removedAt: 50_000 })], 'x', 50_001)).toBe('new');
  });
});
