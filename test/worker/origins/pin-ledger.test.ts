import { beforeEach, describe, expect, it } from 'vitest';
import { createD1Pins } from '../../../worker/origins/d1-origins.ts';
import { openDatabase } from '../platform/database.ts';
import type { PinLedger } from '../../../worker/origins/ports.ts';

const make = async () => createD1Pins(await openDatabase());

describe('PinLedger', () => {
  let pins: PinLedger;
  const add = (name: string, at = 1, max = 3) => pins.add({ name, at, actor: 'key_1' }, max);
  beforeEach(async () => {
    pins = await make();
  });

  it('stores names once, in order', async () => {
    expect(await add('b')).toBe(true);
    expect(await add('a/b')).toBe(true);
    expect(await add('b', 2)).toBe(true);
    expect(await pins.list()).toEqual([
      { name: 'a/b', at: 1, actor: 'key_1' },
      { name: 'b', at: 1, actor: 'key_1' },
    ]);
  });

  it('limits the number of names', async () => {
    for (const name of ['a', 'b', 'c']) expect(await add(name)).toBe(true);
    expect(await add('d')).toBe(false);
    expect(await add('c')).toBe(true);
    expect(await pins.list()).toHaveLength(3);
  });

  it('removes names', async () => {
    await add('a');
    expect(await pins.remove('a')).toBe(true);
    expect(await pins.remove('a')).toBe(false);
    expect(await pins.list()).toEqual([]);
  });
});
