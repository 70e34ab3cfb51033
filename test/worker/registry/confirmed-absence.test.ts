import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createNegativeCache, invalidatingNegativeCache } from '../../../worker/kv-caches.ts';
import { StoreUnavailable } from '../../../worker/platform/ports.ts';
import type { Pointer } from '../../../worker/registry/ports.ts';
import { versionRow } from '../../contracts/sample-rows.ts';

const TTL_MS = 30_000;

function rig(maxEntries = 2) {
  const state = { time: 0 };
  const pointers = new Map<string, Pointer>();
  const pointer = vi.fn(async (name: string): Promise<Pointer> => pointers.get(name) ?? { kind: 'none' });
  const absence = createNegativeCache({
    registry: { pointer },
    ttlMs: TTL_MS,
    maxEntries,
    decoyOf: (name) => `base/${name}`,
    now: () => state.time,
  });
  return { absence, pointer, pointers, state };
}

describe('the check of a missing name', () => {
  beforeEach(() => {
    vi.spyOn(console, 'error').mockImplementation(() => undefined);
  });

  it('is remembered for a while', async () => {
    const { absence, pointer, state } = rig();
    for (const time of [0, 1, TTL_MS - 1]) {
      state.time = time;
      expect(await absence.confirm('a')).toEqual({ state: 'absent' });
    }
    expect(pointer).toHaveBeenCalledTimes(1);
    state.time = TTL_MS;
    await absence.confirm('a');
    expect(pointer).toHaveBeenCalledTimes(2);
  });

  it.each<Pointer>([
    { kind: 'version', row: versionRow('a', 1), strict: false },
    { kind: 'alias', target: 'b' },
  ])('finds what is there after all ($kind), each time anew', async (value) => {
    const { absence, pointer, pointers } = rig();
    pointers.set('a', value);
    expect(await absence.confirm('a')).toEqual({ state: 'found', value, stale: false });
    await absence.confirm('a');
    expect(pointer).toHaveBeenCalledTimes(2);
  });

  it('treats an ended alias as missing', async () => {
    const { absence, pointers } = rig();
    pointers.set('a', { kind: 'gone' });
    expect(await absence.confirm('a')).toEqual({ state: 'absent' });
  });

  it('keeps KV’s answer, uncached, while the system of record is down, but not for a bug', async () => {
    const { absence, pointer, pointers } = rig();
    pointer.mockRejectedValueOnce(new StoreUnavailable('D1', new Error('down')));
    expect(await absence.confirm('a')).toEqual({ state: 'absent' });
    pointers.set('a', { kind: 'alias', target: 'b' });
    expect((await absence.confirm('a')).state).toBe('found');
    pointer.mockRejectedValueOnce(new TypeError('bug'));
    await expect(absence.confirm('a')).rejects.toThrow('bug');
  });

  it('is repeated after the name was written here, even if the write failed', async () => {
    const { absence, pointers } = rig();
    const sync = vi.fn(async () => undefined);
    const writer = invalidatingNegativeCache({ sync }, absence);
    await absence.confirm('a');
    pointers.set('a', { kind: 'alias', target: 'b' });
    await writer.sync('a');
    expect((await absence.confirm('a')).state).toBe('found');
    await absence.confirm('c');
    pointers.set('c', { kind: 'alias', target: 'b' });
    sync.mockRejectedValueOnce(new StoreUnavailable('DO', new Error('down')));
    await expect(writer.sync('c')).rejects.toThrow('down');
    expect((await absence.confirm('c')).state).toBe('found');
  });

  it('forgets the oldest if there are too many', async () => {
    const { absence, pointer } = rig();
    for (const name of ['a', 'b', 'c', 'a']) await absence.confirm(name);
    expect(pointer).toHaveBeenCalledTimes(4);
    await absence.confirm('c');
    expect(pointer).toHaveBeenCalledTimes(4);
  });
});
