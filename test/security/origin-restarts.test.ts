/** Origins that restart while the edge's clock is behind theirs: nothing fails, and nothing is taken a second time. */
import { afterEach, describe, expect, it } from 'vitest';
import { createApp } from '../../gpu-origin/http/app.ts';
import { newStartId, SIGNATURE_HEADER, START_HEADER } from '../../protocol/signature.ts';
import { createOriginFetch } from '../../worker/origins/connection.ts';
import { KEY, startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';
import { createAppHarness } from '../worker/app-harness.ts';
import { FakeClock } from '../fakes/fake-clock.ts';

const running: Origin[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((origin) => origin.stop()));
});

async function startOrigin(originId: string, now: () => number): Promise<Origin> {
  const mode = {
    ...{ kind: 'signed' as const, originId, keys: [KEY] },
    ...{ startedAt: now(), startId: newStartId() },
  };
  const origin = await startTestOrigin({ now, context: { mode } });
  running.push(origin);
  return origin;
}

describe('a rolling restart', () => {
  it.each([0, 1_000, 20_000, 59_000])('of origins %d ms ahead loses no request', async (ahead) => {
    const ids = ['o1', 'o2'];
    const edge = await createAppHarness({ origins: ids.map((id) => ({ id, url: `http://${id}.test` })) });
    const now = () => edge.clock.now() + ahead;
    const origins = new Map(
      await Promise.all(ids.map(async (id) => [id, await startOrigin(id, now)] as const)),
    );
    const refusals: string[] = [];
    edge.origin.answer = async (_method, path, init, url = '') => {
      const { hostname, search } = new URL(url);
      const id = hostname.slice(0, 2);
      const response = await fetch(origins.get(id)?.url + path + search, init);
      if (response.status === 401) refusals.push(id);
      return response;
    };
    const made = await edge.request('/admin/keys', { body: { tenant: 'alice' } });
    const { key } = (await made.json()) as { key: string };
    const ask = (stream: boolean) =>
      edge.request('/v1/chat/completions', {
        key,
        body: { model: 'base', stream, max_tokens: 1, messages: [{ role: 'user', content: 'hi' }] },
      });
    const statuses = new Set<number>();
    for (let second = 0; second < 40; second += 1) {
      if (second === 10 || second === 20) {
        const id = ids[second / 10 - 1] as string;
        await origins.get(id)?.stop();
        origins.set(id, await startOrigin(id, now));
      }
      for (const answer of await Promise.all([ask(false), ask(true)])) {
        statuses.add(answer.status);
        await answer.text();
      }
      edge.clock.advance(1_000);
    }
    expect([...statuses]).toEqual([200]);
    // Each start is learned once, by requests that were under way together.
    expect(refusals.length).toBeLessThanOrEqual(ahead === 0 ? 0 : 4 * 2);
  });
});

/** An origin in this process: what its app answers, without a socket. */
async function appOf(now: () => number) {
  const origin = await startOrigin('o1', now);
  const app = createApp(origin.context);
  return async (url: string, init: RequestInit) => app.request(url, init);
}

describe('a request from before a restart', () => {
  it('is not taken a second time after it, whether or not it was for that start', async () => {
    const clock = new FakeClock();
    const now = () => clock.now() + 20_000;
    const captured: [string, RequestInit][] = [];
    let answer = await appOf(now);
    const send = createOriginFetch({
      keys: [KEY],
      now: clock.now,
      fetch: (url, init) => {
        captured.push([url, init]);
        return answer(url, init);
      },
    });
    const ask = async () => {
      const sent = await send({ id: 'o1', url: 'http://o1.test' }, { method: 'GET', path: '/base' });
      return sent.ok ? sent.value.status : 0;
    };
    expect(await ask()).toBe(200);
    clock.advance(30_000);
    expect(await ask()).toBe(200);
    expect(captured).toHaveLength(3);
    answer = await appOf(now);
    for (const [url, init] of captured) expect((await answer(url, init)).status).toBe(401);
    const before = captured.length;
    expect(await ask()).toBe(200);
    expect(captured.length - before).toBe(2);
  });

  it('tells the present start to nobody without a key', async () => {
    const clock = new FakeClock();
    const answer = await appOf(clock.now);
    const sendAs = (secret: Uint8Array<ArrayBuffer>) => {
      let last: Response | null = null;
      const send = createOriginFetch({
        keys: [{ kid: KEY.kid, secret }],
        now: () => clock.now() - 5_000,
        fetch: async (url, init) => (last ??= await answer(url, init)).clone(),
      });
      return send({ id: 'o1', url: 'http://o1.test' }, { method: 'GET', path: '/base' }).then(
        () => last as Response | null,
      );
    };
    expect((await sendAs(KEY.secret))?.headers.get(START_HEADER)).toMatch(/^[\w-]{22}$/);
    expect((await sendAs(new Uint8Array(32)))?.headers.get(START_HEADER)).toBeNull();
  });
});

describe('an edge that has not been refused yet', () => {
  it('signs for any start of the origin', async () => {
    const clock = new FakeClock();
    const answer = await appOf(clock.now);
    const seen: (string | null)[] = [];
    const send = createOriginFetch({
      keys: [KEY],
      now: clock.now,
      fetch: async (url, init) => {
        seen.push(new Headers(init.headers).get(SIGNATURE_HEADER));
        return answer(url, init);
      },
    });
    const sent = await send({ id: 'o1', url: 'http://o1.test' }, { method: 'GET', path: '/base' });
    expect(sent.ok && sent.value.status).toBe(200);
    expect(seen[0]).not.toContain('b=');
  });
});
