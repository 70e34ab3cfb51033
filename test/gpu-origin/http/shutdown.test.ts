import { createServer, get, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { Hono } from 'hono';
import { describe, expect, it } from 'vitest';
import { drain, Serving, ListenError, listen } from '../../../gpu-origin/http/serve.ts';
import type { OriginEnv } from '../../../gpu-origin/http/origin-context.ts';
import { events, startTestOrigin } from './harness.ts';

describe('the origin’s life cycle', () => {
  it('is not ready while it loads, and answers 503 with a retry time', async () => {
    const origin = await startTestOrigin({ context: { serving: new Serving(), services: null } });
    try {
      expect((await fetch(`${origin.url}/healthz`)).status).toBe(200);
      const ready = await fetch(`${origin.url}/readyz`);
      expect([ready.status, await ready.json()]).toEqual([503, { status: 'loading' }]);
      const early = await fetch(`${origin.url}/base`);
      expect(early.status).toBe(503);
      expect(early.headers.get('retry-after')).toBe('2');
    } finally {
      await origin.stop();
    }
  });

  it('reports a full disk in /readyz and in metrics, and continues serving', async () => {
    const origin = await startTestOrigin();
    try {
      const { services } = origin.context;
      services!.files.disk = () => ({ usedBytes: 7, budgetBytes: 9, refusing: true, refusals: 3 });
      origin.context.metrics.watch(services!.engine, services!.files.disk);
      const ready = await fetch(`${origin.url}/readyz`);
      expect([ready.status, await ready.json()]).toEqual([200, { status: 'ready', disk: 'full' }]);
      const metrics = await (await fetch(`${origin.url}/metrics`)).text();
      expect(metrics).toContain('graft_disk_full 1');
      expect(metrics).toContain('graft_disk_refusals 3');
    } finally {
      await origin.stop();
    }
  });

  it('lets running streams end, refuses new requests, and then ends', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const origin = await startTestOrigin({
      runner: { duringStep: ({ kind }) => (kind === 'decode' ? held : undefined) },
    });
    const ask = {
      method: 'POST',
      body: JSON.stringify({
        model: 'base',
        stream: true,
        messages: [{ role: 'user', content: 'x' }],
        max_tokens: 4,
        ignore_eos: true,
      }),
    };
    const running = await fetch(`${origin.url}/v1/chat/completions`, ask);
    const server = createServer();
    let over = (): void => undefined;
    const grace = new Promise<void>((resolve) => (over = resolve));
    const sleeps: number[] = [];
    const drained = drain({
      serving: origin.serving,
      server,
      connections: origin.connections,
      graceMs: 5_000,
      abortAll: () => origin.engine.close(),
      sleep: (ms) => {
        sleeps.push(ms);
        return ms === 5_000 ? grace : new Promise(() => undefined);
      },
    }).catch(() => undefined);
    expect((await fetch(`${origin.url}/readyz`)).status).toBe(503);
    expect((await fetch(`${origin.url}/base`)).status).toBe(200);
    over();
    await expect.poll(async () => (await fetch(`${origin.url}/base`)).status).toBe(503);
    release();
    expect(events(await running.text()).at(-1)).toBe('[DONE]');
    await drained;
    expect(sleeps.slice(0, 2)).toEqual([5_000, 50_000]);
    await origin.stop();
  });

  it('ends a stream that takes too long with an error event', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const origin = await startTestOrigin({
      runner: { duringStep: ({ kind }) => (kind === 'decode' ? held : undefined) },
    });
    const body = JSON.stringify({
      model: 'base',
      stream: true,
      messages: [{ role: 'user', content: 'x' }],
      ignore_eos: true,
    });
    const running = await fetch(`${origin.url}/v1/chat/completions`, { method: 'POST', body });
    const closed = origin.engine.close();
    release();
    await closed;
    const last = events(await running.text()).at(-1) ?? '';
    expect(JSON.parse(last)).toMatchObject({ error: { code: 'origin_unavailable' } });
    await origin.stop();
  });

  it('lets a slow client read its answer to the end while there is time', async () => {
    // More than the sockets hold.
    const answer = new Uint8Array(64 * 1024 ** 2);
    const app = new Hono<OriginEnv>().get('/answer', () => new Response(answer));
    const { url, server, connections } = await listen({ app, host: '127.0.0.1', port: 0 });
    const [response] = (await once(get(`${url}/answer`), 'response')) as [IncomingMessage];
    let late = false;
    const drained = drain({
      ...{ serving: new Serving(), server, connections, graceMs: 0, abortAll: () => Promise.resolve() },
      sleep: (ms) => (ms > 1_000 ? new Promise(() => undefined) : Promise.resolve()),
    }).then(() => (late = true));
    // Connections that should be closed are closed by now.
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(late).toBe(false);
    let read = 0;
    for await (const chunk of response) read += (chunk as Buffer).length;
    expect(read).toBe(answer.length);
    await drained;
    expect(server.listening).toBe(false);
  });

  it('reports a taken port in one line', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const listening = listen({ app: new Hono<OriginEnv>(), host: '127.0.0.1', port });
    await expect(listening).rejects.toThrow(ListenError);
    await expect(listening).rejects.toThrow(`port ${port} on 127.0.0.1 is taken`);
    other.close();
  });

  it('answers only to loopback names if it is standalone', async () => {
    const origin = await startTestOrigin();
    try {
      const { request } = await import('node:http');
      const statusFor = (headers: Record<string, string>) =>
        new Promise<number | undefined>((resolve, reject) => {
          request(`${origin.url}/base`, { headers }, (response) => {
            response.resume();
            resolve(response.statusCode);
          })
            .on('error', reject)
            .end();
        });
      for (const host of ['localhost:1', '127.0.0.1', '[::1]:8788'])
        expect(await statusFor({ host })).toBe(200);
      for (const host of ['evil.example', '127.0.0.1.evil.example', 'localhost.evil.example:80', '0.0.0.0'])
        expect(await statusFor({ host })).toBe(403);
      for (const host of ['x@localhost', 'localhost/x', 'local host'])
        expect(await statusFor({ host })).not.toBe(200);
      const host = 'localhost';
      expect(await statusFor({ host, origin: 'http://localhost:5173' })).toBe(200);
      for (const bad of ['http://evil.example', 'null', 'http://localhost.evil.example'])
        expect(await statusFor({ host, origin: bad })).toBe(403);
    } finally {
      await origin.stop();
    }
  });
});
