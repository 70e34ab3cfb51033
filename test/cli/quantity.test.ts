import { describe, expect, it } from 'vitest';
import { parseCount, parseDuration } from '../../cli/flags.ts';

describe('quantities of flags', () => {
  it.each([
    ['0', 0],
    ['90s', 90_000],
    ['45m', 2_700_000],
    ['12h', 43_200_000],
    ['30d', 2_592_000_000],
    ['2w', 1_209_600_000],
  ])('%s is %d ms', (text, ms) => expect(parseDuration(text, '--expires')).toBe(ms));

  it.each(['', '5', '1.5h', '-1d', '1y', '1 h', '9999999d'])('%j is no time', (text) =>
    expect(() => parseDuration(text, '--expires')).toThrow(/--expires .* is not a time such as/),
  );

  it.each([
    ['60', 60],
    ['100k', 100_000],
    ['2M', 2_000_000],
  ])('%s is %d', (text, count) => expect(parseCount(text, '--rpm')).toBe(count));

  it.each(['0', '-1', '1.5', '1e3', '5m', 'k', ''])('%j is no count', (text) =>
    expect(() => parseCount(text, '--rpm')).toThrow(/--rpm .* is not a whole number/),
  );
});
