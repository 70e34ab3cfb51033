import fc from 'fast-check';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { Grant } from '../../../worker/access/ports.ts';
import { MAX_LIST_READS } from '../../../worker/completions/limits.ts';
import { usableNames, editDistance, nearestNames } from '../../../worker/completions/usable-names.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import type { Registry } from '../../../worker/registry/ports.ts';
import { versionRow } from '../../contracts/sample-rows.ts';
import { openDatabase } from '../platform/database.ts';

let registry: Registry;
const publish = (name: string, owner: string) =>
  registry.publish({ row: versionRow(name, 1, { owner }), stage: false, before: null });
const alias = (name: string, owner: string, target: string) =>
  registry.alias({ before: null, name, owner, target, actor: 'x', at: 1 });

const rights = { tenant: 'me', scopes: ['room/**'], grants: [] as Grant[] };
const ALL = { prefix: '', after: '', wanted: 99 };
const namesOf = async (more: Partial<typeof rights> = {}, params = ALL) =>
  (await usableNames({ registry }, { ...rights, ...more }, params)).names.map(({ name, version }) =>
    name === version.name ? name : `${name} -> ${version.name}`,
  );

beforeEach(async () => {
  registry = createD1Registry(await openDatabase());
  for (const [name, owner] of [
    ['mine', 'me'],
    ['room/a', 'you'],
    ['room/c', 'you'],
    ['secret', 'you'],
  ] as const)
    await publish(name, owner);
  for (const [name, owner, target] of [
    ['best', 'me', 'room/a'],
    ['hope', 'me', 'secret'],
    ['next', 'me', 'mine'],
    ['room/b', 'you', 'secret'],
    ['room/bb', 'you', 'room/c'],
    ['yours', 'you', 'mine'],
  ] as const)
    await alias(name, owner, target);
});

describe('usableNames', () => {
  it('includes usable aliases in order, and none whose own name may not be used', async () => {
    expect(await namesOf()).toEqual([
      'best -> room/a',
      'mine',
      'next -> mine',
      'room/a',
      'room/bb -> room/c',
      'room/c',
    ]);
  });

  it('includes an alias granted by its owner, but not by another', async () => {
    const granted = (owner: string | null) => namesOf({ scopes: [], grants: [{ scope: 'yours', owner }] });
    const own = ['mine', 'next -> mine'];
    expect(await granted('you')).toEqual([...own, 'yours -> mine']);
    expect(await granted(null)).toEqual([...own, 'yours -> mine']);
    expect(await granted('they')).toEqual(own);
  });

  it.each([1, 2, 3, 4])('continues after a page of %i', async (wanted) => {
    const found: string[] = [];
    for (let after = '', page: string[] = ['']; page.length > 0;) {
      page = await namesOf({}, { ...ALL, after, wanted });
      found.push(...page);
      expect(page.length).toBeLessThanOrEqual(wanted);
      after = page.at(-1)?.split(' ')[0] ?? '';
    }
    expect(found).toEqual(await namesOf());
  });

  it('reads a few times at most, and says where to continue', async () => {
    const usable = vi.spyOn(registry, 'usable');
    const one = { ...ALL, prefix: 'room/', wanted: 1 };
    const first = await usableNames({ registry }, rights, one);
    expect([first.names.map(({ name }) => name), first.more]).toEqual([['room/a'], 'room/a']);
    expect(usable.mock.calls.length).toBeLessThanOrEqual(MAX_LIST_READS);
    // More aliases of another tenant's unusable name than one read returns.
    for (let i = 0; i < 20; i += 1) await alias(`many/${100 + i}`, 'me', 'secret');
    await publish('many/last', 'me');
    const found: string[] = [];
    let after = '';
    for (let round = 0; round < 9; round += 1) {
      usable.mockClear();
      const { names, more } = await usableNames({ registry }, rights, { prefix: 'many/', after, wanted: 1 });
      expect(usable.mock.calls.length).toBeLessThanOrEqual(MAX_LIST_READS);
      found.push(...names.map(({ name }) => name));
      if (more === null) break;
      expect(more > after).toBe(true);
      after = more;
    }
    expect(found).toEqual(['many/last']);
  });
});

fc.configureGlobal({ seed: 20 });

describe('editDistance', () => {
  it.each([
    ['', '', 0],
    ['abc', '', 3],
    ['kitten', 'sitting', 3],
    ['flaw', 'lawn', 2],
  ])('%s to %s is %i', (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
  });

  it('is a metric', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', '/'), maxLength: 8 });
    fc.assert(
      fc.property(word, word, word, (a, b, c) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, b) === 0).toBe(a === b);
        expect(editDistance(a, c)).toBeLessThanOrEqual(editDistance(a, b) + editDistance(b, c));
      }),
    );
  });
});

describe('nearestNames', () => {
  it('orders by similarity and omits what is not similar', () => {
    const candidates = ['support/intent', 'medicine/cardiology', 'medicine', 'medicin'];
    expect(nearestNames('medicne', candidates, 2)).toEqual(['medicine', 'medicin']);
    expect(nearestNames('zzz', candidates, 3)).toEqual([]);
  });

  it('compares nothing longer than 128 characters', () => {
    const long = 'm'.repeat(129);
    expect(nearestNames(long, [long, 'medicine'], 3)).toEqual([]);
    expect(nearestNames(long.slice(1), [long, long.slice(1)], 3)).toEqual([long.slice(1)]);
  });
});
