/** Connections that cost the origin more than they cost who opens them. */
import { once } from 'node:events';
import net from 'node:net';
import { Hono } from 'hono';
import { afterEach, expect, it } from 'vitest';
import type { OriginEnv } from '../../gpu-origin/http/origin-context.ts';
import { listen } from '../../gpu-origin/http/serve.ts';
import { startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';
import { readAnswers, sendRaw } from './raw-socket.ts';

const IDLE = 2_000;

let origin: Origin | null = null;
let sockets: net.Socket[] = [];
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets = [];
  await origin?.stop();
  origin = null;
});

async function open(url: string, said: string): Promise<net.Socket> {
  const socket = net.connect({ host: '127.0.0.1', port: Number(new URL(url).port) });
  sockets.push(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  if (said !== '') socket.write(said);
  return socket;
}

const HALF_REQUESTS = [
  '',
  'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX: ',
  'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{',
  'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n{',
];

it(`${IDLE} connections that say nothing, or half of something, keep nobody else from being served`, async () => {
  origin = await startTestOrigin();
  const { url } = origin;
  await Promise.all(Array.from({ length: IDLE }, (_, i) => open(url, HALF_REQUESTS[i % 4] as string)));
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({
      model: 'alice/notes',
      max_tokens: 4,
      messages: [{ role: 'user', content: 'hi' }],
    }),
  });
  expect(response.status).toBe(200);
  expect(((await response.json()) as { usage: object }).usage).toMatchObject({ completion_tokens: 4 });
  expect(sockets).toHaveLength(IDLE);
});

it('headers have 10 s and 16 KB, requests 300 s, and connections an end', async () => {
  const { server, url } = await listen({ app: new Hono<OriginEnv>(), host: '127.0.0.1', port: 0 });
  expect([server.headersTimeout, server.requestTimeout, server.maxConnections]).toEqual([
    10_000, 300_000, 4_096,
  ]);
  const ask = async (header: string) =>
    readAnswers(
      await sendRaw(
        url,
        `GET /healthz HTTP/1.1\r\nHost: localhost\r\n${header}\r\nConnection: close\r\n\r\n`,
      ),
    ).statuses;
  expect(await ask(`X: ${'a'.repeat(15_000)}`)).toEqual([404]);
  expect(await ask(`X: ${'a'.repeat(17_000)}`)).toEqual([431]);
  server.close();
});

const HEAD = 'POST /v1/models HTTP/1.1\r\nHost: localhost\r\n';
const HIDDEN = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n';

it('two well-formed requests on one connection are both answered', async () => {
  origin = await startTestOrigin();
  const answer = readAnswers(await sendRaw(origin.url, `${HEAD}Content-Length: 0\r\n\r\n${HIDDEN}`));
  expect(answer.statuses).toEqual([405, 200]);
});

it.each([
  ['a length and chunks', 'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['two lengths', 'Content-Length: 0\r\nContent-Length: 5\r\n\r\n'],
  ['a length with a sign', 'Content-Length: +0\r\n\r\n'],
  ['an unknown coding', 'Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n'],
  ['a coding with a space before its colon', 'Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n'],
  ['a bare newline', 'X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a chunk size with a sign', 'Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n'],
])('smuggled behind %s, a second request is never answered', async (_what, rest) => {
  origin = await startTestOrigin();
  const answer = readAnswers(await sendRaw(origin.url, HEAD + rest + HIDDEN));
  expect(answer.statuses.length).toBeLessThanOrEqual(2);
  expect(answer.statuses).not.toContain(200);
  expect((await fetch(`${origin.url}/healthz`)).status).toBe(200);
});
