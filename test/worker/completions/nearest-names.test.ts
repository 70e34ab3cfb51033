import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { editDistance, nearestNames } from '../../../worker/completions/model-not-found.ts';

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
  it('orders by likeness and leaves out what is unlike', () => {
    const candidates = ['support/intent', 'medicine/cardiology', 'medicine', 'medicin'];
    expect(nearestNames('medicne', candidates, 2)).toEqual(['medicine', 'medicin']);
    expect(nearestNames('zzz', candidates, 3)).toEqual([]);
  });

  it('compares nothing that is longer than 128 characters', () => {
    const long = 'm'.repeat(129);
    expect(nearestNames(long, [long, 'medicine'], 3)).toEqual([]);
    expect(nearestNames(long.slice(1), [long, long.slice(1)], 3)).toEqual([long.slice(1)]);
  });
});
