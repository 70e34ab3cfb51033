import { expect, it } from 'vitest';
import { createMetrics } from '../../../gpu-origin/http/metrics.ts';
import type { OriginHistory, OriginList } from '../../../protocol/admin-api/origins.ts';
import type { ResidentList } from '../../../protocol/origin-wire.ts';
import { createD1OriginHistory } from '../../../worker/origins/d1-origins.ts';
import { MINUTE } from '../../contracts/sample-rows.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness } from '../app-harness.ts';
import { openDatabase } from '../platform/database.ts';

it('stores origins’ minutes, and returns the maximum of a step', async () => {
  const ledger = createD1OriginHistory(await openDatabase());
  await ledger.note([MINUTE, { ...MINUTE, origin: 'o2', rowsRunning: 7 }]);
  await ledger.note([{ ...MINUTE, at: 660, rowsRunning: 5, requestsWaiting: 0 }]);
  await ledger.note([{ ...MINUTE, at: 900, rowsRunning: 1 }]);
  // The last note of a minute wins.
  await ledger.note([{ ...MINUTE, at: 900, rowsRunning: 0 }]);
  const read = (step: number, more: object = {}) =>
    ledger.read({ origin: 'o1', from: 0, to: 1_200, step, ...more });
  expect(await read(300)).toEqual([
    { ...MINUTE, at: 600, rowsRunning: 5, requestsWaiting: 1 },
    { ...MINUTE, at: 900, rowsRunning: 0 },
  ]);
  expect((await read(60)).map(({ at, rowsRunning }) => [at, rowsRunning])).toEqual([
    [600, 2],
    [660, 5],
    [900, 0],
  ]);
  expect(await read(300, { to: 900 })).toHaveLength(1);
  expect(await read(300, { origin: 'o3' })).toEqual([]);
  await ledger.forget(660);
  expect((await read(60)).map(({ at }) => at)).toEqual([660, 900]);
  expect(await read(60, { origin: 'o2' })).toEqual([]);
});

it('records each minute how busy the origins are, and whose adapters they hold', async () => {
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
