/** What lies in gatherers is written to D1 before D1 is erased, or backed up. */
import { beforeEach, expect, it, vi } from 'vitest';
import type { BackupRows } from '../../../protocol/admin-api/backup.ts';
import type { EraseAnswer } from '../../../protocol/admin-api/erasures.ts';
import type { UsageReport } from '../../../protocol/admin-api/tenants.ts';
import { type AppHarness, createAppHarness } from '../app-harness.ts';

let graft: AppHarness;
/** Of the harness's clock. */
const HOUR = 472_222;

const count = (tenant: string, number: number) =>
  graft.stores.gatherers.add(number % 16, {
    ...{ sender: 'isolate', number, traffic: [], requests: [] },
    usage: [
      {
        ...{ hour: HOUR, tenant, keyId: 'key_1', name: 'base', version: 0, base: 'base' },
        ...{ requests: 1, errors: 0, promptTokens: 3, completionTokens: 2 },
      },
    ],
  });
const tenants = async () => {
  const report = (await (await graft.request('/admin/usage?by=tenant')).json()) as UsageReport;
  return report.rows.map(({ group }) => group).sort();
};

beforeEach(async () => {
  // Nobody plays an origin that tells figures.
  vi.spyOn(console, 'error').mockReturnValue(undefined);
  graft = await createAppHarness({ quietGatherers: true });
  await count('alice', 1);
  await count('bob', 2);
  expect(await tenants()).toEqual([]);
});

it('erases the usage of a tenant of whom nothing else is left', async () => {
  const erase = async (more: object): Promise<EraseAnswer> =>
    (await (
      await graft.request('/admin/erase', { body: { tenant: 'alice', usage: true, ...more } })
    ).json()) as EraseAnswer;
  let answer = await erase({});
  expect(answer.plan?.usage).toBe(1);
  while (answer.cursor !== null) answer = await erase({ cursor: answer.cursor });
  expect(await tenants()).toEqual(['bob']);
});

it('erases usage that gatherers take while an erasure runs', async () => {
  const erase = async (more: object): Promise<EraseAnswer> =>
    (await (
      await graft.request('/admin/erase', { body: { tenant: 'alice', usage: true, ...more } })
    ).json()) as EraseAnswer;
  let answer = await erase({});
  while (answer.cursor !== null) answer = await erase({ cursor: answer.cursor });
  await count('alice', 17);
  graft.clock.advance((answer.settles_at ?? 0) - graft.clock.now() + 1);
  for (let run = 0; run < 30; run += 1) {
    await graft.schedule(() => undefined);
    graft.clock.advance(180_000);
  }
  await graft.stores.gatherers.writeOut();
  expect(await tenants()).toEqual(['bob']);
});

it('is in a backup', async () => {
  await graft.request('/admin/backup');
  const page = (await (await graft.request('/admin/backup/rows?table=usage')).json()) as BackupRows;
  expect(page.rows).toHaveLength(2);
});
