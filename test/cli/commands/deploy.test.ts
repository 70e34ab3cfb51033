import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { healthy } from '../../../cli/commands/deploy.ts';

let server: http.Server;
let answers: number[];
let asked: string[];
const url = (): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
beforeEach(async () => {
  asked = [];
  server = http.createServer((request, response) => {
    asked.push(request.url ?? '');
    response.writeHead(answers.shift() ?? 200).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});
const wait = (signal = new AbortController().signal, withinMs = 10_000) =>
  healthy(url(), signal, { withinMs, everyMs: 1 });

it('waits until a new edge answers', async () => {
  answers = [404, 500, 200];
  await wait();
  expect(asked).toEqual(['/healthz', '/healthz', '/healthz']);
});

it('shows what the edge answers instead, and where to look', async () => {
  answers = Array<number>(100_000).fill(500);
  await expect(wait(undefined, 50)).rejects.toMatchObject({
    ...{ code: 'edge_not_healthy', exitCode: 6 },
    message: expect.stringMatching(/it answers 500.*wrangler tail/) as string,
  });
});

it('ends with Ctrl-C', async () => {
  answers = Array<number>(100_000).fill(500);
  const ending = new AbortController();
  const waiting = wait(ending.signal);
  while (asked.length === 0) await new Promise((resolve) => setImmediate(resolve));
  ending.abort(new Error('interrupted'));
  await expect(waiting).rejects.toThrow('interrupted');
});
