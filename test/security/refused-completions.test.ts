/** Requests that are refused cost an isolate's one thread something: one tenant's must not keep the others waiting. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { COMPOSED_REQUESTS, LARGE_BODIES, REFUSED_COMPLETIONS } from '../../worker/access/limits.ts';
import { createApp } from '../../worker/app.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

let graft: AppHarness;
let alice: string;
let bob: string;

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  const key = async (tenant: string) => {
    const made = await graft.request('/admin/keys', { body: { tenant } });
    return ((await made.json()) as { key: string }).key;
  };
  [alice, bob] = [await key('alice'), await key('bob')];
});

const chat = (more: object = {}) => ({ model: 'base', messages: [{ role: 'user', content: 'hi' }], ...more });
const ask = (key: string, body: object) => graft.request('/v1/chat/completions', { key, body });

describe('a tenant whose requests are refused', () => {
  it.each([
    ['for names that are not there', chat({ model: 'nobody/has-this' }), 404, 3, 0],
    ['for adapters that are not there', chat({ adapters: [{ name: 'no/a' }, { name: 'no/b' }] }), 404, 7, 0],
    ['for what is in them', chat({ max_tokens: 0 }), 400, 1, 0],
    // As fast as large bodies are taken in at all.
    [
      'for large bodies',
      chat({ messages: 'x'.repeat(640 * 1024) }),
      400,
      11,
      1_000 / LARGE_BODIES.perSecond + 10,
    ],
  ])('waits at the door %s, and nobody else does', async (_why, body, status, cost, pauseMs) => {
    const seen: number[] = [];
    const { burst, perSecond } = REFUSED_COMPLETIONS;
    const most = Math.ceil(burst / (cost - (pauseMs * perSecond) / 1_000));
    for (let i = 0; i < most + 5; i += 1) {
      graft.clock.advance(pauseMs);
      seen.push((await ask(alice, body)).status);
    }
    const refused = seen.indexOf(429);
    expect(new Set(seen.slice(0, refused))).toEqual(new Set([status]));
    expect(Math.abs(refused - most)).toBeLessThanOrEqual(2);
    // What may come in a little later is as dear as before.
    while ((await ask(alice, body)).status !== 429);
    const late = await ask(alice, chat());
    expect(late.status).toBe(429);
    expect(Number(late.headers.get('retry-after-ms'))).toBeGreaterThan(0);
    expect(await late.json()).toMatchObject({ error: { code: 'rate_limit_exceeded' } });
    expect((await ask(bob, chat())).status).toBe(200);
    graft.clock.advance(1_000);
    expect((await ask(alice, chat())).status).toBe(200);
  });

  it('looks up nothing for it', async () => {
    for (let i = 0; i < REFUSED_COMPLETIONS.burst; i += 1) await ask(alice, chat({ max_tokens: 0 }));
    const { names } = graft.services;
    const reads = vi.spyOn(names, 'getMany');
    const read = vi.spyOn(names, 'get');
    expect((await ask(alice, chat({ model: 'nobody/a', adapters: [{ name: 'no/b' }] }))).status).toBe(429);
    // The name itself is looked up beside the key, which is not known at once here.
    expect(reads.mock.calls.length + read.mock.calls.length).toBeLessThanOrEqual(1);
  });

  it('is not limited in what is answered', async () => {
    for (let i = 0; i < REFUSED_COMPLETIONS.burst * 2; i += 1)
      expect((await ask(alice, chat())).status).toBe(200);
  });
});

describe('large bodies of one tenant', () => {
  it('are read a few at a time, whether their length is told or not', async () => {
    const app = createApp(graft.services);
    const hold: (() => void)[] = [];
    /** Bodies that have been let in, or refused, and whose end is waited for. */
    let waiting = 0;
    /** Its first 100 kB come at once, its end when it is let go. */
    const send = (key: string) => {
      const text = new TextEncoder().encode(JSON.stringify(chat({ metadata: { a: 'b' } })).padEnd(120_000));
      let pulls = 0;
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(text.subarray(0, 100_000));
          hold.push(() => {
            controller.enqueue(text.subarray(100_000));
            controller.close();
          });
        },
        pull() {
          pulls += 1;
          if (pulls === 2) waiting += 1;
        },
      });
      const init = { method: 'POST', body, duplex: 'half', headers: { authorization: `Bearer ${key}` } };
      return app.request('/v1/chat/completions', init as RequestInit);
    };
    const first = Array.from({ length: LARGE_BODIES.atOnce }, () => send(alice));
    await vi.waitUntil(() => waiting === first.length);
    const beyond = send(alice);
    const other = send(bob);
    await vi.waitUntil(() => waiting === first.length + 2);
    for (const end of hold) end();
    expect((await beyond).status).toBe(429);
    expect((await other).status).toBe(200);
    for (const one of first) expect((await one).status).toBe(200);
    hold.length = 0;
    const next = send(alice);
    hold[0]!();
    expect((await next).status).toBe(200);
  });
});

describe('requests of one tenant that add adapters', () => {
  it('look their names up a few at a time', async () => {
    const { names } = graft.services;
    const { get } = names;
    let goOn: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (goOn = resolve));
    let waiting = 0;
    names.get = async (name) => {
      waiting += 1;
      await held;
      return get(name);
    };
    const body = chat({ adapters: [{ name: 'no/a' }] });
    const first = Array.from({ length: COMPOSED_REQUESTS.atOnce }, () => ask(alice, body));
    await vi.waitUntil(() => waiting === first.length);
    expect((await ask(alice, body)).status).toBe(429);
    const other = ask(bob, body);
    // What adds nothing goes on.
    expect((await ask(alice, chat())).status).toBe(200);
    goOn();
    expect((await other).status).toBe(404);
    for (const one of first) expect((await one).status).toBe(404);
    expect((await ask(alice, body)).status).toBe(404);
  });
});
