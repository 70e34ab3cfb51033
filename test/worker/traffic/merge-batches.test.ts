import { expect, it } from 'vitest';
import { MAX_BATCH_REQUESTS, MAX_NAMED_ROWS } from '../../../worker/traffic/limits.ts';
import { gather, rowsOf, UNNAMED } from '../../../worker/traffic/sum-traffic.ts';
import { ended } from '../../contracts/sample-rows.ts';

it('keeps the busiest names, and the totals exactly', () => {
  const all = gather();
  const names = Array.from({ length: MAX_NAMED_ROWS + 7 }, (_, i) => `n${i}`);
  for (const name of names) all.add(rowsOf(ended({ name })), []);
  all.add(rowsOf(ended({ name: 'n503' })), []);
  // From another isolate, which had too many names too.
  all.add([{ ...rowsOf(ended())[2]!, name: UNNAMED, keyId: '', requests: 4 }], []);
  const { rows } = all.take();
  const requests = (name: string, tenant = 'me') =>
    rows
      .filter((row) => row.name === name && row.tenant === tenant)
      .reduce((sum, row) => sum + row.requests, 0);
  expect(requests('')).toBe(names.length + 1);
  expect(requests('', '')).toBe(names.length + 1);
  expect(requests('n503')).toBe(2);
  expect(requests(UNNAMED)).toBe(7 + 4);
  expect(rows).toHaveLength(2 + MAX_NAMED_ROWS + 1);
  expect(all.size).toBe(0);
});

it('keeps the newest requests of each tenant, and counts the others', () => {
  const all = gather();
  const { at } = ended();
  for (let i = 0; i < MAX_BATCH_REQUESTS + 5; i += 1)
    all.add([], [{ tenant: 'me', requests: [ended({ id: `r${i}`, at: at + i })], leftOut: i === 0 ? 2 : 0 }]);
  all.add([], [{ tenant: 'you', requests: [ended({ tenant: 'you' })], leftOut: 0 }]);
  expect(all.size).toBe(MAX_BATCH_REQUESTS + 1);
  const [mine, yours] = all.take().chunks;
  expect(mine?.requests.map(({ id }) => id).slice(0, 2)).toEqual(['r104', 'r103']);
  expect(mine?.requests).toHaveLength(MAX_BATCH_REQUESTS);
  expect(mine?.leftOut).toBe(7);
  expect(yours?.requests).toHaveLength(1);
});
