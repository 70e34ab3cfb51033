import { expect, it } from 'vitest';
import { formatNames, measureNames, OPERATIONS } from '../../bench/names.ts';

it('asks every operation of a registry of many names, and counts its rows', async () => {
  const { measured, problems } = await measureNames({
    ...{ sizes: [3_000], turns: 1, only: '', kept: null, short: true },
    signal: new AbortController().signal,
    onProgress: () => undefined,
  });
  expect(problems).toEqual([]);
  expect(measured.map(({ operation }) => operation)).toEqual(OPERATIONS.map(({ name }) => name));
  const costOf = (name: string) => measured.find(({ operation }) => operation === name)?.costs[0];
  expect(costOf('names: page')).toMatchObject({ names: 3_000, rows: { statements: 1, written: 0 } });
  // A page of names has 1,000 of them.
  expect(costOf('names: page')?.rows.read).toBeGreaterThanOrEqual(1_000);
  expect(costOf('alias')?.rows.written).toBeGreaterThan(0);
  expect(costOf('erase a tenant, a page')?.whole.requests).toBeGreaterThan(1);
  for (const { costs } of measured) expect(costs[0]?.cpuMs).toBeGreaterThan(0);
  expect(formatNames(measured).split('\n').length).toBeGreaterThan(measured.length);
});
