/** What goes on after a response, and fails: the client has its answer, and the operator hears of it. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { StoreUnavailable } from '../../../worker/platform/ports.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

let graft: AppHarness;
const lines: Record<string, unknown>[] = [];
beforeEach(async () => {
  lines.length = 0;
  for (const method of ['log', 'warn', 'error'] as const)
    vi.spyOn(console, method).mockImplementation((line: string) => {
      lines.push({ by: method, ...(JSON.parse(line) as object) });
    });
  graft = await createAppHarness();
});
afterEach(() => vi.restoreAllMocks());

/** Pinned names follow a change beside its answer. */
async function publishWhilePinsFail(failure: Error): Promise<string | null> {
  graft.services.pins.list = () => Promise.reject(failure);
  const answer = await graft.publish('notes', tinyAdapter({ seed: 1 }));
  expect(answer.status).toBe(201);
  await Promise.resolve();
  return answer.headers.get('x-request-id');
}

it('is a warning where a store did not answer', async () => {
  const requestId = await publishWhilePinsFail(new StoreUnavailable('D1', new Error('overloaded')));
  expect(requestId).toMatch(/./);
  expect(lines).toEqual([
    {
      by: 'warn',
      level: 'warning',
      event: 'after_response_failed',
      request_id: requestId,
      reason: expect.stringContaining('overloaded'),
    },
  ]);
});

it('is an error, with its stack, where graft is wrong', async () => {
  const requestId = await publishWhilePinsFail(new TypeError('x is not a function'));
  expect(lines).toEqual([
    {
      by: 'error',
      level: 'error',
      event: 'after_response_failed',
      request_id: requestId,
      reason: 'x is not a function',
      stack: expect.stringContaining('TypeError'),
    },
  ]);
});

it('is told once where the response waited for it', async () => {
  const made = await graft.request('/admin/keys', { body: { tenant: 'default' } });
  const { id } = (await made.json()) as { id: string };
  graft.services.rights.syncKey = () => Promise.reject(new StoreUnavailable('DO', new Error('away')));
  expect((await graft.request(`/admin/keys/${id}`, { method: 'DELETE' })).status).toBe(503);
  expect(lines.map(({ event }) => event)).toEqual(['store_unavailable']);
});
