import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import OpenAI from 'openai';
import { createApp } from '../../worker/app.ts';
import { TINY_BASE, tinyAdapter } from '../fakes/tiny-adapters.ts';
import { KEY, startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

/** Name of the published adapter: an id with slashes. */
export const ADAPTER = 'alice/support/notes';

/** What the edge's harness calls its origin. */
const ORIGIN_ID = 'o1';

export interface ConformanceStack {
  /** Of the edge, with `/v1`. */
  baseURL: string;
  origin: Origin;
  edge: AppHarness;
  apiKey: string;
  /** Base and adapter. */
  models: readonly [string, typeof ADAPTER];
  stop(): Promise<void>;
}

export const clientOf = ({ baseURL, apiKey }: ConformanceStack): OpenAI =>
  new OpenAI({ baseURL, apiKey, maxRetries: 0 });

/**
 * The whole path of a request in this process, over real sockets: client, edge (its app on fakes), signature, origin
 * (its app, the fake runner and a tiny tokenizer). One adapter is published under a name with slashes.
 */
export async function startConformanceStack(
  options: Parameters<typeof startTestOrigin>[0] & {
    corsOrigins?: readonly string[];
    /** How far the origin's clock is ahead of the edge's, ms. */
    originAheadMs?: number;
    /** Name of one more adapter, which is published and which the origin does not hold. */
    unsent?: string;
  } = {},
): Promise<ConformanceStack> {
  const edge = await createAppHarness();
  const { now } = edge.clock;
  const adapter = tinyAdapter({ seed: 1 });
  const published = await edge.publish(ADAPTER, adapter, { owner: 'alice' });
  if (published.status !== 201) throw new Error(await published.text());
  if (options.unsent !== undefined)
    await edge.publish(options.unsent, tinyAdapter({ seed: 2 }), { owner: 'alice' });
  const made = await edge.request('/admin/keys', { body: { tenant: 'alice' } });
  const { key: apiKey } = (await made.json()) as { key: string };

  const originNow = () => now() + (options.originAheadMs ?? 0);
  const startedAt = Math.min(now(), originNow()) - 1_000;
  const origin = await startTestOrigin({
    ...options,
    now: originNow,
    context: {
      mode: { kind: 'signed', originId: ORIGIN_ID, keys: [KEY], startedAt },
      ...options.context,
    },
  });
  await origin.store.put(adapter.digest, new Uint8Array(adapter.bytes));
  // With the query, which is signed as well.
  edge.origin.answer = (_method, path, init, url) => {
    const { search } = new URL(url ?? path, origin.url);
    return fetch(origin.url + path + search, init);
  };

  const server = serve({
    fetch: createApp({ ...edge.services, corsOrigins: [...(options.corsOrigins ?? [])] }).fetch,
    hostname: '127.0.0.1',
    port: 0,
    overrideGlobalObjects: false,
  }) as Server;
  if (!server.listening) await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    baseURL: `http://127.0.0.1:${port}/v1`,
    origin,
    edge,
    apiKey,
    models: [TINY_BASE.id, ADAPTER],
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await origin.stop();
    },
  };
}
