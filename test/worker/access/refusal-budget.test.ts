import { expect, it } from 'vitest';
import { createRefusalBudget, refusalCost } from '../../../worker/access/rate-limits.ts';

it('charges refusals by cost', () => {
  const cost = (status: number, names = 1, bytes = 0) => refusalCost({ status, names, bytes });
  expect([cost(200), cost(503), cost(500)]).toEqual([0, 0, 0]);
  expect([cost(429), cost(400), cost(400, 1, 983_040)]).toEqual([1, 1, 16]);
  // A missing name costs lookups; a forbidden request does not.
  expect([cost(404), cost(404, 8), cost(413, 8)]).toEqual([3, 17, 1]);
});

it('allows each caller a burst, and a rate per second', () => {
  let now = 0;
  const budget = createRefusalBudget({ perSecond: 10, burst: 20, maxEntries: 10, now: () => now });
  budget.spend('a', 19);
  expect([budget.waitMs('a'), budget.waitMs('b')]).toEqual([null, null]);
  budget.spend('a', 1);
  expect([budget.waitMs('a'), budget.waitMs('b')]).toEqual([100, null]);
  now = 100;
  expect(budget.waitMs('a')).toBeNull();
  // One expensive request may go below zero, but no further than the burst.
  budget.spend('a', 1_000);
  expect(budget.waitMs('a')).toBe(2_100);
  now = 100_000;
  expect(budget.waitMs('a')).toBeNull();
  budget.spend('a', 20);
  expect(budget.waitMs('a')).toBe(100);
  // Refusals without a cost create no entry.
  budget.spend('c', 0);
  expect(budget.size).toBe(1);
});

it('remembers a bounded number of callers, the latest to spend', () => {
  const budget = createRefusalBudget({ perSecond: 1, burst: 1, maxEntries: 2, now: () => 0 });
  for (const who of ['a', 'b', 'a', 'c']) budget.spend(who, 1);
  expect(budget.size).toBe(2);
  expect(['a', 'b', 'c'].map((who) => budget.waitMs(who) === null)).toEqual([false, true, false]);
});
