import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_JSON_CONTAINERS } from '../../protocol/limits.ts';
import { badShape } from '../../protocol/parse-body.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const isDeeperThan = (json: Uint8Array, limit: number): boolean => badShape(json, limit) !== null;

/** What JSON.parse makes of it says the same. */
function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

describe('badShape', () => {
  it('agrees with the parsed value', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), fc.nat(7), fc.nat(2), (value, limit, indent) => {
        const json = JSON.stringify(value, null, indent);
        expect(isDeeperThan(bytes(json), limit)).toBe(depthOf(JSON.parse(json)) > limit);
      }),
      { seed: 1, numRuns: 500 },
    );
  });

  it.each([
    ['[[]]', 2, false],
    ['[[]]', 1, true],
    ['[{"a":[]}]', 3, false],
    ['[{"a":[]}]', 2, true],
    ['[[],[],[]]', 2, false],
    [String.raw`["[[[[\"[[[["]`, 1, false],
    [String.raw`["\\",[[]]]`, 2, true],
    ['"[[[["', 0, false],
    ['"é[[[[ü"', 0, false],
    ['', 0, false],
  ])('%s deeper than %d: %s', (json, limit, expected) => {
    expect(isDeeperThan(bytes(json), limit)).toBe(expected);
  });

  it('stops before the end of text that is not JSON', () => {
    expect(isDeeperThan(bytes('['.repeat(1_000_000)), 64)).toBe(true);
    expect(isDeeperThan(bytes(']]]]"'), 64)).toBe(false);
  });

  it('counts arrays and objects, but not those in strings', () => {
    const many = (count: number) => bytes(`[${Array.from({ length: count - 1 }, () => '{}').join(',')}]`);
    expect(badShape(many(MAX_JSON_CONTAINERS))).toBeNull();
    expect(badShape(many(MAX_JSON_CONTAINERS + 1))).toContain(`more than ${MAX_JSON_CONTAINERS}`);
    expect(badShape(bytes(JSON.stringify('[{'.repeat(MAX_JSON_CONTAINERS))))).toBeNull();
  });
});
