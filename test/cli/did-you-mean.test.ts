import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { didYouMean, editDistance } from '../../cli/flags.ts';

describe('editDistance', () => {
  it.each([
    ['', '', 0],
    ['', 'abc', 3],
    ['publish', 'pubish', 1],
    ['parnet', 'parent', 1],
    ['kitten', 'sitting', 3],
  ])('%j -> %j: %i', (a, b, edits) => {
    expect(editDistance(a, b)).toBe(edits);
  });

  it('is a symmetric distance between 0 and the longer length', () => {
    const word = fc.string({ maxLength: 12 });
    fc.assert(
      fc.property(word, word, (a, b) => {
        const edits = editDistance(a, b);
        expect(edits).toBe(editDistance(b, a));
        expect(edits === 0).toBe(a === b);
        expect(edits).toBeLessThanOrEqual(Math.max(a.length, b.length));
        expect(edits).toBeGreaterThanOrEqual(Math.abs(a.length - b.length));
      }),
    );
  });
});

describe('didYouMean', () => {
  const KNOWN = ['publish', 'pull', 'ls', 'ps'];
  it('names the closest word, or nothing', () => {
    expect(didYouMean('pubish', KNOWN, 'graft ')).toBe(' Did you mean graft publish?');
    expect(didYouMean('l', KNOWN)).toBe(' Did you mean ls?');
    expect(didYouMean('frobnicate', KNOWN)).toBe('');
    expect(didYouMean('x', [])).toBe('');
  });
});
