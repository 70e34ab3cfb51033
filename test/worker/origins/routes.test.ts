import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createMetrics } from '../../../gpu-origin/http/metrics.ts';
import { TINY_BASE } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const RESIDENTS = { adapters: [], used_bytes: 0, budget_bytes: 1_000 };

let graft: AppHarness;
let tenant: string;
let measured: () => Response | Promise<Response>;

beforeEach(async () => {
  graft = await createAppHarness();
  const metrics = createMetrics();
  measured = async () => new Response(await metrics.text());
  graft.origin.answer = (_method, path) =>
    path === '/base'
      ? Response.json(TINY_BASE)
      : path === '/adapters'
        ? Response.json(RESIDENTS)
        : path === '/metrics'
          ? measured()
          : new Response(null, { status: 404 });
  const made = await graft.request('/admin/keys', { body: { kind: 'admin', tenant: 'clinic' } });
  tenant = ((await made.json()) as { key: string }).key;
  graft.asked.length = 0;
});

const origins = async (query = '', key?: string) => {
  const response = await graft.request(`/admin/origins${query}`, key === undefined ? {} : { key });
  expect(response.status).toBe(200);
  return ((await response.json()) as { origins: Record<string, unknown>[] }).origins;
};

describe('GET /admin/origins', () => {
  it.each(['', '?figures=false'])('neither requests nor returns figures with %j', async (query) => {
    const [origin] = await origins(query);
    expect(origin).toEqual({
      id: 'o1',
      base: expect.objectContaining({ id: TINY_BASE.id }),
      residents: RESIDENTS,
    });
    expect(graft.asked.sort()).toEqual(['GET /adapters', 'GET /base']);
  });

  it('returns the figures to the bootstrap key', async () => {
    const [origin] = await origins('?figures=true');
    expect(origin).toMatchObject({
      residents: RESIDENTS,
      figures: { rows_running: 0, first_token: { count: 0, seconds: 0 } },
    });
    expect(graft.asked).toContain('GET /metrics');
  });

  it('returns null to a tenant’s key, without asking', async () => {
    const [origin] = await origins('?figures=true', tenant);
    expect(origin).toMatchObject({ id: 'o1', residents: null, figures: null });
    expect(origin?.['base']).not.toBeNull();
    expect(graft.asked).not.toContain('GET /metrics');
  });

  it('tells the bootstrap key why an origin has no base, and logs it', async () => {
    const said = vi.spyOn(console, 'error').mockReturnValue();
    const message = 'The edge’s clock and this origin’s differ by 300 s.';
    const error = { code: 'invalid_signature', message, reason: 'clock_skew', type: 't', param: null };
    graft.origin.answer = () => Response.json({ error }, { status: 401 });
    expect(await origins()).toEqual([{ id: 'o1', base: null, reason: message, residents: null }]);
    expect(await origins('', tenant)).toEqual([{ id: 'o1', base: null, residents: null }]);
    const line = { level: 'error', event: 'origin_refused_signature', origin: 'o1', reason: 'clock_skew' };
    expect(said.mock.calls.map(([text]) => JSON.parse(text as string) as unknown)).toContainEqual({
      ...line,
      message,
    });
    graft.origin.answer = () => Promise.reject(new TypeError('Network connection lost.'));
    expect(await origins()).toMatchObject([{ base: null, reason: 'Network connection lost.' }]);
  });

  it.each<[string, () => Response]>([
    ['are no metrics', () => new Response('<html></html>')],
    ['are empty', () => new Response('')],
    ['are refused', () => new Response('no', { status: 500 })],
    [
      'do not come',
      () => {
        throw new TypeError('connection reset');
      },
    ],
  ])('has null where they %s, and the rest all the same', async (_what, answer) => {
    vi.spyOn(console, 'error').mockImplementation(() => undefined);
    measured = answer;
    const [origin] = await origins('?figures=true');
    expect(origin).toMatchObject({ residents: RESIDENTS, figures: null });
    expect(origin?.['base']).not.toBeNull();
  });

  it.each([
    ['?figure=true', 'figure'],
    ['?figures=yes', 'figures'],
    ['?figures=', 'figures'],
    ['?figures=true&more=1', 'more'],
  ])('refuses %s', async (query, named) => {
    const response = await graft.request(`/admin/origins${query}`);
    expect(response.status).toBe(400);
    const { error } = (await response.json()) as { error: { code: string; message: string; param: string } };
    expect(error.code).toBe('invalid_request');
    expect(`${error.param} ${error.message}`).toContain(named);
    expect(graft.asked).toEqual([]);
  });
});
