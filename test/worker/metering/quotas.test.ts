import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { chat, startTestEdge, type TestEdge } from '../edge-harness.ts';
import { SLOW, WAIT_MS } from '../../setup/slow.ts';

let graft: TestEdge;
const notes = tinyAdapter({ seed: 21 });

interface Made {
  id: string;
  key: string;
}

const makeKey = async (more: object, path = '/admin/keys'): Promise<Made> => {
  const response = await graft.admin(path, { method: 'POST', body: JSON.stringify(more) });
  expect(response.status).toBe(201);
  return (await response.json()) as Made;
};
const ask = (key: string, more: object = {}) =>
  graft.request('/v1/chat/completions', { method: 'POST', key, body: chat('notes', more) });
const statuses = (answers: Response[]) =>
  answers.reduce<Record<number, number>>(
    (sums, { status }) => ({ ...sums, [status]: (sums[status] ?? 0) + 1 }),
    {},
  );
const errorOf = async (response: Response) =>
  ((await response.json()) as { error: { code: string; type: string; message: string } }).error;
/** Polls until the condition holds: some writes follow after the response. */
async function eventually<T>(read: () => Promise<T>, isSo: (value: T) => boolean): Promise<T> {
  const until = Date.now() + WAIT_MS;
  let last: T;
  do {
    last = await read();
    if (isSo(last)) return last;
    await sleep(50);
  } while (Date.now() < until);
  const said = last instanceof Response ? `${last.status} ${await last.text()}` : JSON.stringify(last);
  throw new Error(`it never came to be so; the last was ${said}\n${graft.logs.slice(-5).join('\n')}`);
}

beforeAll(async () => {
  graft = await startTestEdge();
  expect((await graft.publish({ name: 'notes', adapter: notes })).status).toBe(201);
});
afterEach(() => graft.origin.release());
afterAll(() => graft.stop());

describe('limits of a key, in workerd', () => {
  it('admits exactly as many requests as allowed, however many arrive at once', async () => {
    const { key } = await makeKey({ limits: { requests_per_minute: 17 } });
    const answers = await Promise.all(Array.from({ length: 60 }, () => ask(key)));
    expect(statuses(answers)).toEqual({ 200: 17, 429: 43 });
    const passed = answers.filter(({ status }) => status === 200);
    const left = passed.map(({ headers }) => Number(headers.get('x-ratelimit-remaining-requests')));
    expect(left.sort((a, b) => b - a)).toEqual(Array.from({ length: 17 }, (_, i) => 16 - i));
    for (const refused of answers.filter(({ status }) => status === 429)) {
      expect(refused.headers.get('x-should-retry')).toBe('true');
      const ms = Number(refused.headers.get('retry-after-ms'));
      expect(ms).toBeGreaterThan(50_000);
      expect(ms).toBeLessThanOrEqual(61_000);
      expect(refused.headers.get('retry-after')).toBe(String(Math.ceil(ms / 1_000)));
      expect(refused.headers.get('x-ratelimit-remaining-requests')).toBe('0');
      expect(await errorOf(refused)).toMatchObject({
        code: 'rate_limit_exceeded',
        type: 'rate_limit_error',
        message: expect.stringContaining('17 requests per minute') as string,
      });
    }
    await Promise.all(passed.map((response) => response.arrayBuffer()));
  });

  it('counts concurrent streams exactly, and frees their slots when they end', async () => {
    const { key } = await makeKey({ limits: { concurrent: 3 } });
    graft.origin.hold();
    const streams = await Promise.all(Array.from({ length: 9 }, () => ask(key, { stream: true })));
    expect(statuses(streams)).toEqual({ 200: 3, 429: 6 });
    for (const refused of streams.filter(({ status }) => status === 429)) {
      expect(refused.headers.get('retry-after-ms')).toBe('1000');
      await refused.arrayBuffer();
    }
    graft.origin.release();
    for (const stream of streams.filter(({ status }) => status === 200))
      expect(await stream.text()).toContain('[DONE]');
    const again = await eventually(
      () => ask(key),
      ({ status }) => status === 200,
    );
    await again.arrayBuffer();
  });

  it('frees the slot of a stream whose client has disconnected', async () => {
    const seen = () => graft.origin.log.aborted.filter((model) => model === 'notes@1').length;
    graft.origin.hold();
    // workerd misses some clients that disconnect as the headers arrive (workerd#6832); those streams end
    // when they stall, which is tested with a fake clock.
    for (let tries = 0; tries < 8; tries += 1) {
      const { key } = await makeKey({ limits: { concurrent: 1 } });
      const stream = await ask(key, { model: 'notes@1', stream: true });
      expect(stream.status).toBe(200);
      expect((await ask(key)).status).toBe(429);
      const before = seen();
      await stream.body?.cancel();
      for (let wait = 0; wait < 60 * SLOW && seen() === before; wait += 1) await sleep(50);
      if (seen() === before) continue;
      const next = await eventually(
        () => ask(key),
        ({ status }) => status === 200,
      );
      await next.arrayBuffer();
      return;
    }
    throw new Error('no end of a connection was ever noticed');
  });

  it('refuses requests once a token budget is exhausted, and says so', async () => {
    const { key } = await makeKey({ limits: { tokens_per_day: 3 } });
    // Two tokens each.
    for (const more of [{}, { stream: true }]) {
      const answer = await ask(key, more);
      expect(answer.status).toBe(200);
      await answer.text();
    }
    const spent = await eventually(
      () => ask(key),
      ({ status }) => status === 429,
    );
    expect(spent.headers.get('x-should-retry')).toBe('false');
    expect(spent.headers.get('retry-after')).toBeNull();
    expect(await errorOf(spent)).toMatchObject({
      code: 'insufficient_quota',
      type: 'insufficient_quota',
      message: expect.stringContaining('3 tokens per day') as string,
    });
  });

  it('counts a rotated key together with the one it replaces', async () => {
    const old = await makeKey({ limits: { requests_per_minute: 2 } });
    const fresh = await makeKey({ id: old.id, grace: 60_000 }, '/admin/keys/rotate');
    const codes = [];
    for (const { key } of [old, fresh, old, fresh]) {
      const answer = await ask(key);
      codes.push(answer.status);
      await answer.arrayBuffer();
    }
    expect(codes).toEqual([200, 200, 429, 429]);
  });
});

describe('limits of a tenant, in workerd', () => {
  const limit = async (tenant: string, limits: object | null) => {
    const body = JSON.stringify({ tenant, limits });
    const response = await graft.admin('/admin/tenants/limits', { method: 'POST', body });
    expect([response.status, await response.json()]).toMatchObject([200, { tenant, pending: false }]);
  };

  it('admits exactly as many requests of all keys as allowed, however many arrive at once', async () => {
    const old = await makeKey({ tenant: 'clinic' });
    await limit('clinic', { requests_per_minute: 17 });
    const keys = [old, await makeKey({ tenant: 'clinic' }), await makeKey({ tenant: 'clinic' })];
    const other = await makeKey({ tenant: 'ward' });
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, i) =>
        graft.request('/v1/chat/completions', {
          ...{ method: 'POST', key: keys[i % 3]?.key ?? '', body: chat('base') },
        }),
      ),
    );
    expect(statuses(answers)).toEqual({ 200: 17, 429: 43 });
    for (const { headers, status } of answers)
      expect(headers.get('x-graft-limited-by')).toBe(status === 429 ? 'tenant' : null);
    const byOther = await graft.request('/v1/chat/completions', {
      ...{ method: 'POST', key: other.key, body: chat('base') },
    });
    expect(byOther.status).toBe(200);
    await Promise.all([...answers, byOther].map((answer) => answer.arrayBuffer()));
    await limit('clinic', null);
    const again = await eventually(
      () => graft.request('/v1/chat/completions', { method: 'POST', key: old.key, body: chat('base') }),
      ({ status }) => status === 200,
    );
    await again.arrayBuffer();
  });
});

describe('usage, in workerd', () => {
  const usageOf = async (id: string) => {
    const response = await graft.admin('/admin/usage?by=key');
    const { rows } = (await response.json()) as { rows: { group: string; requests: number }[] };
    return rows.find(({ group }) => group === id);
  };

  it('is recorded by key for streams and whole answers, and invisible to clients', async () => {
    const { key, id } = await makeKey({ label: 'counted' });
    expect(await (await ask(key)).json()).toMatchObject({ usage: { total_tokens: 2 } });
    const stream = await ask(key, { stream: true });
    expect(stream.headers.get('x-graft-usage')).toBeNull();
    const text = await stream.text();
    expect(text).toContain('[DONE]');
    expect(text).not.toContain('usage');
    await (await ask(key, { model: 'unknown' })).arrayBuffer();
    expect(
      await eventually(
        () => usageOf(id),
        (row) => (row?.requests ?? 0) >= 2,
      ),
    ).toEqual({
      ...{ group: id, requests: 2, errors: 0, prompt_tokens: 2, completion_tokens: 2, total_tokens: 4 },
      last_hour: expect.stringMatching(/^\d{4}-.*T\d\d:00:00\.000Z$/),
    });
  });
});
