/** From a completion at the real edge to the admin API's report. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { UsageReport } from '../../../protocol/admin-api/tenants.ts';
import type { RequestList, TrafficReport } from '../../../protocol/admin-api/traffic.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { chat, startTestEdge, type TestEdge } from '../edge-harness.ts';

let graft: TestEdge;
let key: string;
beforeAll(async () => {
  graft = await startTestEdge();
  key = await graft.makeKey({ tenant: 'acme', scopes: ['**'] });
  const published = await graft.publish({ name: 'notes', adapter: tinyAdapter({ seed: 1 }) });
  expect(published.status).toBe(201);
});
afterAll(() => graft?.stop());

const ask = async (model: string, more: object = {}, by = key) => {
  const response = await graft.request('/v1/chat/completions', {
    ...{ method: 'POST', key: by, body: chat(model, more) },
    headers: { 'content-type': 'application/json' },
  });
  await response.text();
  return response;
};
const read = async <T>(path: string, by?: string): Promise<T> => {
  const answer = await graft.admin(path, by === undefined ? {} : { key: by });
  expect(answer.status).toBe(200);
  return (await answer.json()) as T;
};
const traffic = (query = '', by?: string) => read<TrafficReport>(`/admin/traffic${query}`, by);

it('counts each request once, with its tokens, times and errors, and lists it', async () => {
  const streamed = await ask('notes', { stream: true });
  await ask('notes');
  await ask('base');
  expect((await ask('nothing-of-that-name')).status).toBe(404);
  expect((await ask('notes', { temperature: -1 })).status).toBe(400);
  expect((await ask('base', {}, 'gk_wrong')).status).toBe(401);
  await expect.poll(async () => (await traffic()).total.requests).toBe(5);

  const { points, total, step } = await traffic('?tenant=acme');
  expect(step).toBe(300);
  expect(points.reduce((sum, { requests }) => sum + requests, 0)).toBe(5);
  expect(total).toMatchObject({ requests: 5, errors: 2 });
  expect(total.outcomes).toEqual([
    { status: 200, code: '', requests: 3 },
    { status: 400, code: 'invalid_request', requests: 1 },
    { status: 404, code: 'model_not_found', requests: 1 },
  ]);
  expect(total.ttft_ms.p50).toBeGreaterThan(0);
  expect(total.duration_ms.p95).toBeGreaterThan(0);
  expect((await traffic('?name=notes')).total.requests).toBe(2);
  expect((await traffic('?name=notes')).unnamed).toBe(0);
  expect((await traffic('?tenant=other')).total.requests).toBe(0);

  // The usage report, which `graft usage` shows, is the same.
  const usage = await read<UsageReport>('/admin/usage?by=name');
  const sum = (count: 'prompt_tokens' | 'completion_tokens') =>
    usage.rows.reduce((before, row) => before + row[count], 0);
  expect(total.prompt_tokens).toBe(sum('prompt_tokens'));
  expect(total.completion_tokens).toBe(sum('completion_tokens'));
  expect(sum('prompt_tokens')).toBeGreaterThan(0);
  expect(Object.fromEntries(usage.rows.map(({ group, requests }) => [group, requests]))).toEqual({
    notes: 2,
    base: 1,
  });

  const { requests, truncated, left_out: leftOut } = await read<RequestList>('/admin/requests?tenant=acme');
  expect([requests.length, truncated, leftOut]).toEqual([5, false, 0]);
  const first = requests.find(({ id }) => id === streamed.headers.get('x-request-id'));
  expect(first).toMatchObject({
    ...{ tenant: 'acme', name: 'notes', version: 1, status: 200, code: '', stream: true, origin: 'o1' },
    ...{ route: '/v1/chat/completions', cold: false },
  });
  expect(first?.ttft_ms).toBeGreaterThan(0);
  expect(first?.duration_ms).toBeGreaterThanOrEqual(first?.ttft_ms ?? Infinity);
  expect(first?.phases.map(({ name }) => name)).toEqual(expect.arrayContaining(['key', 'name', 'origin']));
  expect(JSON.stringify(requests)).not.toContain('"hi"');
  const ids = async (query: string) =>
    (await read<RequestList>(`/admin/requests?${query}`)).requests.map(({ status }) => status).sort();
  expect(await ids('status=failed')).toEqual([400, 404]);
  expect(await ids('status=4xx&name=')).toEqual([400, 404]);
  expect(await ids('status=404')).toEqual([404]);
  expect(await ids('status=ok&name=notes')).toEqual([200, 200]);
  expect(await ids(`id=${first?.id}`)).toEqual([200]);
  expect(await ids('limit=2')).toHaveLength(2);
});

it('shows each tenant its own traffic, and keeps the sums after the schedule', async () => {
  const other = await graft.makeAdminKey('other');
  const acme = await graft.makeAdminKey('acme');
  expect((await traffic('', other)).total.requests).toBe(0);
  expect((await traffic('', acme)).total.requests).toBe(5);
  expect((await read<RequestList>('/admin/requests', other)).requests).toEqual([]);
  expect((await graft.admin('/admin/traffic?tenant=acme', { key: other })).status).toBe(403);
  expect((await graft.admin('/admin/requests?tenant=acme', { key: other })).status).toBe(403);
  await graft.edge.runSchedule();
  expect((await traffic('?step=3600')).total.requests).toBe(5);
  for (const query of ['from=2026-01-02&to=2026-01-01', 'step=60&from=2026-01-01', 'step=7'])
    expect((await graft.admin(`/admin/traffic?${query}`)).status).toBe(400);
});
