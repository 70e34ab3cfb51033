import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ASCII,
  drawAxis,
  drawInterval,
  glyphsFor,
  type Scale,
  scaleOf,
  UNICODE,
} from '../../../cli/experiment/draw-interval.ts';

const lift = (low: number, estimate: number, high: number) => ({ low, estimate, high });
const TENTH: Scale = { from: -0.1, to: 0.1 };

describe('drawInterval', () => {
  it.each([
    ['around 0', lift(-0.05, 0, 0.05), '     ├────●────┤     '],
    ['above 0', lift(0.02, 0.05, 0.08), '          │ ├──●──┤  '],
    ['below 0', lift(-0.1, -0.06, -0.03), '├───●──┤  │          '],
    ['with 0 inside', lift(-0.03, 0.04, 0.1), '       ├──┼───●─────┤'],
    ['beyond both ends', lift(-3, 0.02, 2), '←─────────┼─●───────→'],
    ['without a width', lift(0.05, 0.05, 0.05), '          │    ●     '],
    ['beginning at 0', lift(0, 0.05, 0.1), '          ├────●────┤'],
  ])('%s', (_, interval, expected) => expect(drawInterval(interval, TENTH, 21, UNICODE)).toBe(expected));

  it('needs no more than ASCII', () =>
    expect(
      [lift(-0.03, 0.04, 0.1), lift(0.02, 0.05, 9)].map((one) => drawInterval(one, TENTH, 21, ASCII)),
    ).toEqual(['       [--+---o-----]', '          | [--o---->']));

  const share = fc.double({ min: -3, max: 3, noNaN: true });
  it('has the right width and its three marks in order, for any input', () =>
    fc.assert(
      fc.property(
        fc.array(fc.tuple(share, share, share), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 3, max: 61 }),
        (all, width) => {
          const lifts = all.map((three) =>
            lift(...(three.toSorted((a, b) => a - b) as [number, number, number])),
          );
          const scale = scaleOf(lifts);
          expect(scale.from).toBeLessThanOrEqual(0);
          expect(scale.to).toBeGreaterThanOrEqual(0);
          for (const one of lifts) {
            expect(one.estimate).toBeGreaterThanOrEqual(scale.from);
            expect(one.estimate).toBeLessThanOrEqual(scale.to);
            const line = drawInterval(one, scale, width, ASCII);
            expect(line).toHaveLength(width);
            expect(line.trim()).toMatch(/^(\| *)?[[<]?-*\+?-*o-*\+?-*[\]>]?( *\|)?$/);
          }
          expect(drawAxis(scale, width)).toHaveLength(width);
        },
      ),
    ));
});

describe('scaleOf', () => {
  it.each([
    [[lift(-0.012, 0.09, 0.1914)], { from: -0.015, to: 0.2 }],
    [[lift(0.02, 0.03, 0.041), lift(-0.3, -0.2, -0.1)], { from: -0.3, to: 0.05 }],
    [[lift(0.1, 0.2, 0.3)], { from: 0, to: 0.3 }],
    // What is known least does not make the others invisible …
    [[lift(-40, 0.1, 40)], { from: -1, to: 1 }],
    // … but an estimate is always on it.
    [[lift(-40, 3, 40)], { from: -6, to: 6 }],
    [[lift(0, 0, 0)], { from: -0.01, to: 0.01 }],
  ])('of %j', (lifts, scale) => expect(scaleOf(lifts)).toEqual(scale));
});

describe('drawAxis', () => {
  it.each([
    [{ from: -0.1, to: 0.1 }, '-10 %     0    +10 %'],
    [{ from: 0, to: 0.3 }, '0              +30 %'],
    [{ from: -0.3, to: 0 }, '-30 %              0'],
    // Labels that would touch the 0 are left out.
    [{ from: -0.01, to: 0.5 }, '0              +50 %'],
  ])('of %j', (scale, expected) => {
    const axis = drawAxis(scale, 20);
    expect(axis).toHaveLength(20);
    expect(axis.trim()).toBe(expected);
  });
});

it.each([
  [{ LANG: 'en_US.UTF-8' }, UNICODE],
  [{ LANG: 'C', LC_ALL: 'C.utf8' }, UNICODE],
  [{ LANG: 'en_US.UTF-8', LC_ALL: 'C' }, ASCII],
  [{ LANG: 'en_US.UTF-8', NO_COLOR: '1' }, ASCII],
  [{}, ASCII],
])('glyphsFor %j', (env, expected) => expect(glyphsFor(env)).toBe(expected));
