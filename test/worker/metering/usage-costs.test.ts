import { expect, it } from 'vitest';
import { joinUsage, type UsageReport } from '../../../protocol/admin-api/tenants.ts';
import { USAGE_PAGE_HOURS } from '../../../worker/metering/limits.ts';
import { createAppHarness } from '../app-harness.ts';

const hour = Math.floor(Date.UTC(2026, 2, 31) / 3_600_000);

it('reports costs only if there is a price list', async () => {
  const read = async (prices?: object): Promise<UsageReport> => {
    const graft = await createAppHarness(prices === undefined ? {} : { prices: prices as never });
    const rows = [
      {
        ...{ hour, tenant: 'acme', keyId: 'key_1', name: 'base', version: 0 },
        ...{ base: 'base', requests: 1, errors: 0 },
        ...{ promptTokens: 2_000_000, completionTokens: 1_000_000 },
      },
    ];
    await graft.stores.usage.add({ id: 'a', at: 1, rows });
    const answer = await graft.request('/admin/usage?by=name&from=2026-03-30&to=2026-04-02');
    return (await answer.json()) as UsageReport;
  };
  const priced = await read({ currency: 'USD', prompt: 1, completion: 10, bases: {} });
  expect(priced).toMatchObject({ currency: 'USD', rows: [{ group: 'base', cost: 12 }] });
  const plain = await read();
  expect(plain.rows).toHaveLength(1);
  expect(JSON.stringify(plain)).not.toMatch(/cost|currency/);
});

it('answers in pages that add up, with costs by base, and refuses another cursor', async () => {
  const prices = {
    currency: 'USD',
    prompt: 1,
    completion: 10,
    bases: { large: { prompt: 5, completion: 0 } },
  };
  const graft = await createAppHarness({ prices });
  const number = USAGE_PAGE_HOURS + 500;
  const rows = Array.from({ length: number }, (_, i) => ({
    ...{ hour: hour + (i % 40), tenant: `t${i % 7}`, keyId: `key_${i % 3}`, name: `n${i}`, version: 1 },
    ...{ base: i % 2 === 0 ? 'base' : 'large', requests: 1, errors: 0, promptTokens: 1_000_000 },
    completionTokens: i % 2 === 0 ? 100_000 : 0,
  }));
  await graft.stores.usage.add({ id: 'a', at: 1, rows });
  const read = async (query: string): Promise<UsageReport> =>
    (await (
      await graft.request(`/admin/usage?from=2026-03-30&to=2026-04-03&${query}`)
    ).json()) as UsageReport;
  const first = await read('by=name');
  expect(first.rows).toHaveLength(USAGE_PAGE_HOURS);
  const next = await read(`by=name&cursor=${encodeURIComponent(first.cursor!)}`);
  expect(next).toMatchObject({ from: first.from, to: first.to, cursor: null });
  const all = joinUsage([first, next]);
  expect(all.rows).toHaveLength(number);
  // By tenant there is one page: it reads sums of days.
  const tenants = await read('by=tenant');
  expect(tenants.cursor).toBeNull();
  const sum = (of: 'requests' | 'cost', report: UsageReport): number =>
    report.rows.reduce((total, row) => total + (row[of] ?? 0), 0);
  for (const report of [all, tenants]) {
    expect(sum('requests', report)).toBe(number);
    // Half of them at 1 + 0.1 * 10, the others at 5.
    expect(sum('cost', report)).toBeCloseTo((number / 2) * (2 + 5), 6);
  }

  for (const cursor of ['x', '{}', '{"from":0,"to":1,"place":{"source":9,"after":null}}']) {
    const answer = await graft.request(`/admin/usage?by=name&cursor=${encodeURIComponent(cursor)}`);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ error: { code: 'invalid_request', param: 'cursor' } });
  }
});

it('has whole days of UTC by default, today as the last', async () => {
  const graft = await createAppHarness();
  const report = (await (await graft.request('/admin/usage')).json()) as UsageReport;
  expect([report.from, report.to].map((time) => time.slice(11))).toEqual(Array(2).fill('00:00:00.000Z'));
  expect(Date.parse(report.to) - Date.parse(report.from)).toBe(30 * 86_400_000);
  expect(Date.parse(report.to) - graft.clock.now()).toBeGreaterThan(0);
  expect(Date.parse(report.to) - graft.clock.now()).toBeLessThanOrEqual(86_400_000);
});
