/** What an edge outside of Cloudflare reaches when it calls an address that a tenant wrote down. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Miniflare, type WorkerOptions } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { callOut } from '../../cli/local/edge.ts';

const SCRIPT = `export default {
  async fetch(request, env) {
    const url = new URL(request.url).searchParams.get('url');
    const response = await env.OUT.fetch(url).catch(() => null);
    return new Response(String(response?.status));
  },
};`;

let server: Server;
let port: number;
let calls = 0;
beforeAll(async () => {
  server = createServer((_, response) => {
    calls += 1;
    response.end();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  ({ port } = server.address() as AddressInfo);
});
afterAll(() => server.close());

it.each([
  ['public', false, 0],
  ['and its own, under graft dev', true, 2],
])('reaches addresses that are %s', async (_what, loopback, reached) => {
  calls = 0;
  const edge = new Miniflare({
    modules: [{ type: 'ESModule', path: 'index.js', contents: SCRIPT }],
    serviceBindings: { OUT: callOut({ loopback }) },
  } as WorkerOptions & ConstructorParameters<typeof Miniflare>[0]);
  try {
    // A name that leads there as well: what counts is the address that it has when it is called.
    for (const host of ['127.0.0.1', 'localhost'])
      await (
        await edge.dispatchFetch(`http://edge/?url=${encodeURIComponent(`http://${host}:${port}/`)}`)
      ).text();
    expect(calls).toBe(reached);
  } finally {
    await edge.dispose();
  }
});
