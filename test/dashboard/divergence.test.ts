import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { divergence, type TokenScores } from '../../dashboard/model/answer-difference.ts';

/** @param top probabilities by token. @param token the one that was taken; the first unless given. */
const at = (top: Record<string, number>, token = Object.keys(top)[0]!): TokenScores => ({
  token,
  top: Object.entries(top).map(([name, share]) => ({ token: name, logprob: Math.log(share) })),
});

describe('the divergence of two answers', () => {
  it.each<[string, TokenScores[], TokenScores[], { nats: number; tokens: number; shared: number } | null]>([
    ['nothing', [], [], null],
    ['one side alone', [at({ a: 0.5 })], [], null],
    ['the same', [at({ a: 0.7, b: 0.2 })], [at({ a: 0.7, b: 0.2 })], { nats: 0, tokens: 1, shared: 2 }],
    [
      'another share, the rest of one token',
      [at({ a: 0.75, b: 0.25 })],
      [at({ a: 0.5, b: 0.5 })],
      { nats: 0.75 * Math.log(1.5) + 0.25 * Math.log(0.5), tokens: 1, shared: 2 },
    ],
    [
      'tokens that one side alone names, which are a part of the rest',
      [at({ a: 0.5, b: 0.3 })],
      [at({ a: 0.6, c: 0.3 })],
      { nats: 0.5 * Math.log(0.5 / 0.6) + 0.5 * Math.log(0.5 / 0.4), tokens: 1, shared: 1 },
    ],
    ['no token in common', [at({ a: 0.5 })], [at({ b: 0.5 })], { nats: 0, tokens: 1, shared: 0 }],
    [
      'the first that differs, and none behind it',
      [at({ a: 1 }), at({ b: 0.6, c: 0.4 }), at({ d: 1 })],
      [at({ a: 1 }), at({ b: 0.4, c: 0.6 }, 'c'), at({ d: 1 })],
      { nats: (0.6 * Math.log(1.5) + 0.4 * Math.log(2 / 3)) / 2, tokens: 2, shared: 1.5 },
    ],
    [
      'as far as the shorter one goes',
      [at({ a: 0.75, b: 0.25 }), at({ b: 1 })],
      [at({ a: 0.75, b: 0.25 })],
      { nats: 0, tokens: 1, shared: 2 },
    ],
    [
      'two tokens of the same bytes',
      [{ token: 'a', top: [...at({ a: 0.3 }).top, ...at({ a: 0.3 }).top] }],
      [at({ a: 0.6 })],
      { nats: 0, tokens: 1, shared: 1 },
    ],
  ])('of %s', (_what, p, q, expected) => {
    const found = divergence(p, q);
    if (expected === null || found === null) return expect(found).toBe(expected);
    expect(found.nats).toBeCloseTo(expected.nats, 6);
    expect({ ...found, nats: 0 }).toEqual({ ...expected, nats: 0 });
  });

  it('is never above that of the whole distributions, never below 0, and never infinite', () => {
    const TOKENS = 8;
    const weights = fc.array(fc.double({ min: 1e-6, max: 1, noNaN: true }), {
      minLength: TOKENS,
      maxLength: TOKENS,
    });
    const shares = (all: number[]) => {
      const sum = all.reduce((total, one) => total + one, 0);
      return all.map((one) => one / sum);
    };
    const named = (all: number[], count: number) =>
      at(
        Object.fromEntries(
          all
            .map((share, i) => [`t${i}`, share] as const)
            .sort(([, a], [, b]) => b - a)
            .slice(0, count),
        ),
        't',
      );
    fc.assert(
      fc.property(weights, weights, fc.integer({ min: 1, max: TOKENS }), (a, b, count) => {
        const [p, q] = [shares(a), shares(b)];
        const whole = p.reduce((sum, share, i) => sum + share * Math.log(share / q[i]!), 0);
        const { nats } = divergence([named(p, count)], [named(q, count)])!;
        expect(nats).toBeGreaterThanOrEqual(0);
        expect(nats).toBeLessThanOrEqual(whole + 1e-5);
      }),
    );
  });
});
