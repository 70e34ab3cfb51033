import { expect, it } from 'vitest';
import type { UsageReport } from '../../../protocol/admin-api/tenants.ts';
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
