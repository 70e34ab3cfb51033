import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  differenceText,
  liftText,
  meanText,
  parseShare,
  pValueText,
  shareText,
} from '../../../cli/experiment/experiment-words.ts';

describe('parseShare', () => {
  it.each([
    ['5%', 0.05],
    ['100%', 1],
    ['0%', 0],
    ['12.5%', 0.125],
    ['33.3333%', 0.333333],
    ['0.05', 0.05],
    ['.5', 0.5],
    ['1.0', 1],
  ])('%s', (text, share) => expect(parseShare(text, '--coverage')).toBe(share));

  // A bare number may be meant in percent.
  it.each(['1', '5', '0', '', '%', '101%', '-5%', '1.5', 'x', '5 %', '1e-2', '5%%', 'NaN', 'Infinity%'])(
    'refuses %j',
    (text) => expect(() => parseShare(text, '--coverage')).toThrow(/^--coverage: /),
  );

  it('reads what is written for people', () =>
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1_000_000 }), (millionths) => {
        const share = millionths / 1_000_000;
        expect(parseShare(shareText(share).replace(' ', ''), '--ramp')).toBe(share);
      }),
    ));
});

it.each([
  [liftText(0.0897), '+9.0 %'],
  [liftText(-0.0004), '0.0 %'],
  [liftText(0), '0.0 %'],
  [liftText(-0.148), '-14.8 %'],
  [liftText(12.345), '+1235 %'],
  [meanText(0.312, 'proportion'), '31.2 %'],
  [meanText(412.34, 'mean'), '412.3'],
  [meanText(0.000123456, 'mean'), '0.0001235'],
  [differenceText(0.028, 'proportion'), '+2.8 pp'],
  [differenceText(-41.29, 'mean'), '-41.29'],
  [differenceText(3, 'mean'), '+3'],
  [pValueText(0.0342), '0.034'],
  [pValueText(0.00002), '< 0.001'],
])('prints %s', (text, expected) => expect(text).toBe(expected));
