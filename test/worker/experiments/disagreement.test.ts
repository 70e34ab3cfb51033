import { describe, expect, it } from 'vitest';
import { disagreement, isRepeatable } from '../../../worker/experiments/outcome.ts';

describe('disagreement', () => {
  it.each<[string[], string[], 0 | 1]>([
    [['yes'], ['yes'], 0],
    [['yes'], [' yes\n'], 0],
    [['yes'], ['Yes'], 1],
    [['a  b'], ['a b'], 1],
    [[''], ['  '], 0],
    [['a', 'b'], ['a', 'b'], 0],
    [['a', 'b'], ['b', 'a'], 1],
    [['a', 'b'], ['a'], 1],
    [['a'], ['a', 'b'], 1],
  ])('of %j and %j', (told, shadow, expected) => expect(disagreement(told, shadow)).toBe(expected));

  it.each<[Parameters<typeof isRepeatable>[0], boolean]>([
    [{ temperature: 0 }, true],
    [{ temperature: 0.7, seed: 3 }, true],
    [{ seed: 0 }, true],
    [{ temperature: 0.7 }, false],
    [{ temperature: null, seed: null }, false],
    [{}, false],
  ])('is asked for only where chance has no part: %j', (request, expected) =>
    expect(isRepeatable(request)).toBe(expected),
  );
});
