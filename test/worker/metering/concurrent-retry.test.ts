import { expect, it } from 'vitest';
import { admit, emptyQuota, settle, type QuotaState } from '../../../worker/metering/quota-state.ts';

const limits = { concurrent: 1 };
const retryAt = (state: QuotaState, at: number): number | undefined =>
  admit([{ state, limits }], { lease: `r${at}`, at })[0]?.refused?.retryAfterMs;

/**
 * Consecutive requests of these durations, ms.
 * @returns when the last one ended.
 */
function served(state: QuotaState, durations: readonly number[]): number {
  let at = 1_000_000;
  for (const [number, ms] of durations.entries()) {
    admit([{ state, limits }], { lease: `s${number}`, at });
    at += ms;
    settle(state, { limits, lease: `s${number}`, tokens: 1, again: false, at });
  }
  return at;
}

it('is when the oldest request will have taken the average time', () => {
  const state = emptyQuota();
  const at = served(state, [20_000, 20_000]);
  admit([{ state, limits }], { lease: 'a', at });
  expect(retryAt(state, at)).toBe(20_000);
  expect(retryAt(state, at + 12_000)).toBe(8_000);
  // Nearly over, and one that takes longer than average.
  expect(retryAt(state, at + 19_900)).toBe(1_000);
  expect(retryAt(state, at + 25_000)).toBe(5_000);
});

it('is a second if nothing is known, and half a minute at most', () => {
  const state = emptyQuota();
  admit([{ state, limits }], { lease: 'a', at: 5 });
  expect(retryAt(state, 6)).toBe(1_000);
  const slow = emptyQuota();
  const at = served(slow, [300_000, 300_000]);
  admit([{ state: slow, limits }], { lease: 'a', at });
  expect(retryAt(slow, at)).toBe(30_000);
});
