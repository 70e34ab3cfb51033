/** How much one user can teach. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { limitUsers, mostOfUser } from '../../../worker/improvements/make-rows.ts';

const DAY_MS = 86_400_000;
const START = Date.UTC(2026, 10, 25);

interface Told {
  at: number;
  user: string;
}
/** @param days of each user's decisions, from the first day. */
const of = (...users: number[][]): Told[] =>
  users
    .flatMap((days, user) => days.map((day, i) => ({ at: START + day * DAY_MS + i, user: `u${user}` })))
    .sort((a, b) => a.at - b.at);
const many = (users: number): number[][] => Array.from({ length: users }, () => [0]);

describe('mostOfUser', () => {
  it.each([
    [0, 1],
    [20, 1],
    [99, 1],
    [199, 1],
    [200, 2],
    [1_000, 10],
  ])('of %i rows is %i', (rows, most) => {
    expect(mostOfUser(rows)).toBe(most);
  });
});

describe('limitUsers', () => {
  it.each([
    { what: 'nothing of nothing', told: of(), rows: 0, day: 0, share: 0 },
    { what: 'one of each where rows are few', told: of([0, 1, 2], [0]), rows: 2, day: 0, share: 2 },
    { what: 'the first of a day', told: of([0, 0, 0], [0]), rows: 2, day: 2, share: 0 },
    // 200 rows allow two of one user: 199 others and one with two, not with three.
    { what: '1 % of what remains', told: of([0, 1, 2, 3, 4], ...many(198)), rows: 200, day: 0, share: 3 },
    {
      what: 'one, where two would be more than 1 %',
      told: of([0, 1], ...many(197)),
      rows: 198,
      day: 0,
      share: 1,
    },
  ])('takes $what', ({ told, rows, day, share }) => {
    const limited = limitUsers(told);
    expect({ rows: limited.taken.length, day: limited.day, share: limited.share }).toEqual({
      rows,
      day,
      share,
    });
  });

  it('keeps the newest days of a user who has more than its share', () => {
    const { taken } = limitUsers(of([0, 1, 2, 3], ...many(198)));
    expect(taken.filter(({ user }) => user === 'u0').map(({ at }) => ((at - START) / DAY_MS) | 0)).toEqual([
      2, 3,
    ]);
  });

  it('never takes more of a user than the limits say, whoever floods, and nothing twice', () => {
    const told = fc.array(
      fc.record({
        at: fc.integer({ min: START, max: START + 30 * DAY_MS }),
        user: fc.integer({ min: 0, max: 300 }).map((n) => `u${n < 100 ? 0 : n}`),
      }),
      { maxLength: 1_500 },
    );
    fc.assert(
      fc.property(told, (all) => {
        const sorted = [...all].sort((a, b) => a.at - b.at);
        const { taken, day, share } = limitUsers(sorted);
        const counts = new Map<string, number>();
        const days = new Set<string>();
        for (const { at, user } of taken) {
          counts.set(user, (counts.get(user) ?? 0) + 1);
          days.add(`${user} ${Math.floor(at / DAY_MS)}`);
        }
        expect(days.size).toBe(taken.length);
        expect(Math.max(0, ...counts.values())).toBeLessThanOrEqual(mostOfUser(taken.length));
        expect(taken.length + day + share).toBe(all.length);
        // Everyone who told something is heard.
        expect(counts.size).toBe(new Set(all.map(({ user }) => user)).size);
        expect(taken).toEqual([...taken].sort((a, b) => a.at - b.at));
      }),
      { numRuns: 60 },
    );
  });
});
