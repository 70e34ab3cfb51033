import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createMetrics } from '../../../gpu-origin/http/metrics.ts';
import type { OriginHistory, OriginList, ResidentList } from '../../../protocol/index.ts';
import { createD1OriginHistory } from '../../../worker/origins/d1-origins.ts';
import { originHistoryContract } from '../../contracts/origin-history.ts';
import { createFakeOriginHistory } from '../../fakes/fake-origin-history.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness } from '../app-harness.ts';
import { openRealDatabase, startDatabases } from '../platform/real-database.ts';

let miniflare: Miniflare;
beforeAll(() => {
  miniflare = startDatabases();
});
afterAll(() => miniflare.dispose());

originHistoryContract('the fake', async () => createFakeOriginHistory());
originHistoryContract('D1', async () => createD1OriginHistory(await openRealDatabase(miniflare)));

it('notes each minute how busy the origins are, and says whose adapters they hold', async () => {
  const graft = await createAppHarness();
  const adapter = tinyAdapter({ seed: 1 });
  expect((await graft.publish('notes', adapter)).status).toBe(201);
  const held = {
    digest: adapter.digest,
    state: 'ready',
    bytes: 9,
    rank: 1,
    references: 0,
    pinned: false,
  } as const;
  const residents: ResidentList = {
    ...{ budget_bytes: 20, used_bytes: 18 },
    adapters: [held, { ...held, digest: 'f'.repeat(64) }],
  };
  const metrics = await createMetrics().text();
  const { answer } = graft.origin;
  let down = false;
  graft.origin.answer = (method, path, init) => {
    if (down) throw new Error('nobody is there');
    if (path === '/metrics') return new Response(metrics);
    return method === 'GET' && path === '/adapters' ? Response.json(residents) : answer(method, path, init);
  };
  const tick = async () => {
    await graft.schedule((work) => void work.catch(() => undefined));
    graft.clock.advance(60_000);
  };
  await tick();
  await tick();
  down = true;
  await tick();
  down = false;
  const read = async <T>(path: string) => (await (await graft.request(path)).json()) as T;
  const history = await read<OriginHistory>('/admin/origins/history?origin=o1&step=60');
  expect(history.points).toHaveLength(2);
  expect(history.points[1]!.at - history.points[0]!.at).toBe(60_000);
  expect(history.points[0]).toMatchObject({ rows_running: 0, requests_waiting: 0 });
  expect((await read<OriginHistory>('/admin/origins/history?origin=o2')).points).toEqual([]);
  expect((await read<OriginList>('/admin/origins?names=true')).names).toEqual([
    { digest: adapter.digest, name: 'notes', version: 1, owner: 'default' },
  ]);
  expect(await read<OriginList>('/admin/origins')).not.toHaveProperty('names');
});
