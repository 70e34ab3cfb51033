import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type GatherLoad, gatherCounts } from '../../bench/gather.ts';

beforeEach(() => void vi.spyOn(console, 'error').mockReturnValue(undefined));
afterEach(() => vi.restoreAllMocks());

/** A fiftieth of the bench's. */
const LOAD: GatherLoad = {
  ...{
    isolates: 20,
    rate: 200,
    tenants: 200,
    names: 3,
    seconds: 75,
    warmUp: 0,
    giant: 0,
    restartMs: Infinity,
    kept: 0.05,
  },
};

it.each<[string, Partial<GatherLoad>]>([
  ['as they are spread by themselves', {}],
  ['when one tenant has half of all requests', { giant: 5 }],
  ['when every gatherer ends again and again', { restartMs: 7_000 }],
  ['when D1 is away for a while', { away: [10_000, 40_000] }],
])('what many isolates count is in D1 once, in few transactions: %s', async (_, more) => {
  const { requests, lost, prompts, transactionsPerSecond, bytesPerListedRequest } = await gatherCounts({
    ...LOAD,
    ...more,
  });
  expect(requests).toBe(15_000);
  expect([lost, prompts.lost]).toEqual([0, 0]);
  expect(prompts.kept).toBeGreaterThan(500);
  expect(prompts.transactionsPerSecond).toBeLessThan(2);
  expect(transactionsPerSecond).toBeLessThan(5);
  expect(bytesPerListedRequest).toBeLessThan(150);
});

it('a tenant with half of all requests does not keep one gatherer busy', async () => {
  const { lost, busiestPart } = await gatherCounts({
    ...LOAD,
    ...{ giant: 20, largeTenantRows: 500, warmUp: 15 },
  });
  expect(lost).toBe(0);
  // Without: 0.55.
  expect(busiestPart).toBeLessThan(0.25);
});
