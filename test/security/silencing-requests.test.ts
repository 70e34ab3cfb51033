/** A request that stops the origin it is sent to, before the edge's app and four origins: how many of them it stops. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { UsageReport } from '../../protocol/admin-api/tenants.ts';
import { MAX_SILENCED_ORIGINS, SILENCE_MEMORY_MS } from '../../worker/origins/limits.ts';
import { HANG_MS } from '../setup/slow.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

const ORIGINS = Array.from({ length: 4 }, (_, i) => ({ id: `o${i}`, url: `http://o${i}.test` }));
/** What hangs is given up soon, and a busy machine still answers in time. */
const IMPATIENT_MS = HANG_MS / 10;

let edge: AppHarness;
let key: string;
/** Hosts that were sent a completion. */
let sent: string[];
/** Hosts that answer nothing any more. */
let silent: Set<string>;
/** Whether a prompt stops the origin. */
let stops: (body: string, host: string) => boolean;

const hung = (signal: AbortSignal | null | undefined) =>
  new Promise<never>((_, reject) =>
    signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true }),
  );

async function startEdge(origins = ORIGINS): Promise<void> {
  edge = await createAppHarness({ origins, patienceMs: IMPATIENT_MS, pulseMs: IMPATIENT_MS });
  const serve = edge.origin.answer;
  edge.origin.answer = async (method, path, init, url = '') => {
    const { host } = new URL(url);
    if (path === '/v1/chat/completions') {
      sent.push(host);
      if (stops(init.body as string, host)) silent.add(host);
    }
    return silent.has(host) ? hung(init.signal) : serve(method, path, init, url);
  };
  const made = await edge.request('/admin/keys', { body: { tenant: 'mallory', scopes: ['**'] } });
  key = ((await made.json()) as { key: string }).key;
}

const ask = async (content: string, as = key) => {
  const response = await edge.request('/v1/chat/completions', {
    key: as,
    body: { model: 'base', messages: [{ role: 'user', content }] },
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
};

const usageOf = async () => {
  await edge.settled();
  const report = await edge.request('/admin/usage?by=tenant&from=2020-01-01');
  const { rows } = UsageReport.parse(await report.json());
  return rows.find(({ group }) => group === 'mallory');
};

beforeEach(async () => {
  sent = [];
  silent = new Set();
  stops = (body) => body.includes('poison');
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  vi.spyOn(console, 'log').mockImplementation(() => undefined);
  await startEdge();
});

describe('a request under which an origin falls silent', () => {
  it('is sent to one more origin and to no other one', async () => {
    const refused = await ask('poison');
    expect([refused.status, JSON.parse(refused.text)]).toMatchObject([
      503,
      { error: { code: 'origin_stopped', message: expect.stringContaining('stopped answering') as string } },
    ]);
    expect(refused.headers.get('x-should-retry')).toBe('false');
    expect(new Set(sent).size).toBe(MAX_SILENCED_ORIGINS);
    expect(sent).toHaveLength(MAX_SILENCED_ORIGINS);
    // Half of the origins are there for everybody else.
    expect((await ask('good')).status).toBe(200);
  });

  it('is sent nowhere the second time, until some minutes have passed', async () => {
    await ask('poison');
    silent.clear();
    sent = [];
    for (let i = 0; i < 3; i += 1)
      expect(JSON.parse((await ask('poison')).text)).toMatchObject({ error: { code: 'origin_stopped' } });
    expect(sent).toEqual([]);
    // Others' requests are their own, also the same words.
    stops = () => false;
    const other = await edge.request('/admin/keys', { body: { tenant: 'alice', scopes: ['**'] } });
    expect((await ask('poison', ((await other.json()) as { key: string }).key)).status).toBe(200);
    edge.clock.advance(SILENCE_MEMORY_MS + 1);
    expect((await ask('poison')).status).toBe(200);
  });

  it('is remembered where there is one origin too, after it stopped it twice', async () => {
    await startEdge(ORIGINS.slice(0, 1));
    const codes: string[] = [];
    for (let i = 0; i < 4; i += 1) {
      silent.clear();
      codes.push((JSON.parse((await ask('poison')).text) as { error: { code: string } }).error.code);
    }
    expect(codes).toEqual(['origin_unavailable', 'origin_stopped', 'origin_stopped', 'origin_stopped']);
    expect(sent).toHaveLength(2);
  });

  it('is not held against it when the next origin answers: the first one was lost by itself', async () => {
    for (let i = 0; i < 3; i += 1) {
      silent.clear();
      stops = () => silent.size === 0;
      sent = [];
      expect((await ask('good')).status).toBe(200);
      expect(sent).toHaveLength(2);
    }
  });

  it('is counted with the most that its prompt can have, and nothing more when it is refused', async () => {
    await ask('poison');
    const once = await usageOf();
    expect(once).toMatchObject({ requests: 1 });
    expect(once?.prompt_tokens).toBeGreaterThan(0);
    await ask('poison');
    expect(await usageOf()).toMatchObject({ requests: 2, prompt_tokens: once?.prompt_tokens });
  });
});
