/** What is remembered of requests that are wrong must not add up: 20,000 of them leave an app as large as 2,000 do. */
import { createHash } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApp as createOrigin } from '../../gpu-origin/http/app.ts';
import { generateApiKey, hashApiKey } from '../../protocol/identity.ts';
import { sign } from '../../protocol/signature.ts';
import type { RawEnv } from '../../worker/env.ts';
import type { KvNamespace } from '../../worker/platform/store-calls.ts';
import { createSealer } from '../../worker/platform/kv-cache.ts';
import type { SqlDatabase, SqlStatement } from '../../worker/platform/d1-database.ts';
import type { KeyRecord } from '../../worker/access/ports.ts';
import { envelope, KEY, ORIGIN_ID, startTestOrigin } from '../gpu-origin/http/harness.ts';
import { badCompletion, badRequest } from './bad-requests.ts';
import { createRandom } from './random.ts';

/** Named so that it is loaded and not compiled here: its types are workerd's. */
const EDGE: string = '../../worker/index.ts';
const REQUESTS = 20_000;
/** By then all code is compiled, and each thing that an app keeps once is there. */
const WARM = 2_000;
/**
 * Memories are bounded at 10,000 entries (the edge's) or by time (the origin's nonces, 180 s) and are not full after the
 * first 2,000 requests. A kilobyte kept of each request would be 18 MB.
 */
const MAX_GROWTH_BYTES = 14_000_000;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const heapUsed = (): number => {
  collect();
  collect();
  return process.memoryUsage().heapUsed;
};
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** @param send the request of this number. @returns bytes between the first ones and all of them. */
async function growth(
  send: (i: number) => Promise<Response>,
): Promise<{ bytes: number; statuses: Set<number> }> {
  const statuses = new Set<number>();
  let warm = 0;
  for (let i = 0; i < REQUESTS; i += 1) {
    const answer = await send(i);
    await answer.arrayBuffer();
    statuses.add(answer.status);
    if (i === WARM) warm = heapUsed();
  }
  return { bytes: heapUsed() - warm, statuses };
}

// A spy would remember every line.
const { error, log } = console;
const { fetch } = globalThis;
beforeAll(() => {
  Object.assign(console, { error: () => undefined, log: () => undefined });
  // The edge's origin is away.
  globalThis.fetch = () => Promise.reject(new Error('no network'));
});
afterAll(() => {
  Object.assign(console, { error, log });
  globalThis.fetch = fetch;
});

describe('20,000 bad requests', () => {
  it('leave the edge as large as it was', async () => {
    const { default: edge } = (await import(EDGE)) as {
      default: { fetch: (request: Request, env: RawEnv, context: object) => Promise<Response> };
    };
    const secret = Buffer.alloc(32, 9);
    const [api, admin] = [generateApiKey('gk'), generateApiKey('ga')];
    const record: KeyRecord = { id: 'key_1', tenant: 'alice', scopes: [] };
    const place = `key:${await hashApiKey(api)}`;
    const sealed = await createSealer(new Uint8Array(secret)).seal(place, record);
    const get = async (key: string | string[]) =>
      Array.isArray(key) ? new Map(key.map((one) => [one, null])) : key === place ? sealed : null;
    const statement: SqlStatement = {
      bind: () => statement,
      first: async () => null,
      all: async () => ({ results: [] }),
      run: async () => undefined,
    };
    const db: SqlDatabase = {
      prepare: () => statement,
      batch: async (all) => all.map(() => ({ results: [] })),
    };
    const env: RawEnv = {
      ADAPTERS: {
        get,
        put: async () => undefined,
        list: async () => ({ keys: [], list_complete: true }),
      } as unknown as KvNamespace,
      DB: db,
      POINTERS: { idFromName: (name) => name, get: () => ({ fetch: async () => Response.json(null) }) },
      EXPERIMENTS: { idFromName: (name) => name, get: () => ({ fetch: async () => Response.json(null) }) },
      GATHERERS: { idFromName: (name) => name, get: () => ({ fetch: async () => Response.json([]) }) },
      PAIRS: { idFromName: (name) => name, get: () => ({ fetch: async () => Response.json(null) }) },
      ORIGINS: JSON.stringify([{ id: 'o1', url: 'http://127.0.0.1:1' }]),
      GRAFT_ORIGIN_KEYS: `k1:${secret.toString('base64')}`,
      GRAFT_MAC_KEY: secret.toString('base64'),
      GRAFT_ADMIN_KEY_SHA256: await hashApiKey(admin),
    };
    const random = createRandom(1);
    const keys = [api, api, admin, '', 'gk_odd', 'fresh'] as const;
    const context = { waitUntil: () => undefined };
    const routes = [
      '/v1/models',
      '/admin/names',
      '/admin/keys',
      '/admin/grants',
      '/admin/promote',
      '/admin/versions',
      '/admin/usage',
      '/admin/experiments',
      '/admin/alias',
    ].flatMap((path) => ['GET', 'POST', 'DELETE'].map((method) => ({ method, path })));
    const { bytes, statuses } = await growth(async (i) => {
      const { path, headers, ...init } = badRequest(random, i.toString(36), routes);
      const key = random.pick(keys);
      const fresh = key === 'fresh' ? generateApiKey(i % 2 === 0 ? 'gk' : 'ga') : key;
      const request = new Request(`http://edge.test${path}`, {
        ...init,
        headers: { ...headers, authorization: `Bearer ${fresh}` },
      });
      return edge.fetch(request, env, context);
    });
    expect([...statuses].filter((status) => status === 500)).toEqual([]);
    expect(bytes).toBeLessThan(MAX_GROWTH_BYTES);
  });

  it('leave the origin as large as it was', async () => {
    const origin = await startTestOrigin({ signed: true });
    const app = createOrigin(origin.context);
    const random = createRandom(2);
    const routes = [
      '/base',
      '/adapters',
      '/adapters/pins',
      '/adapters/drop',
      '/adapters/prefetch',
      `/adapters/${'a'.repeat(64)}`,
      `/adapters/${'a'.repeat(64)}/file`,
      '/v1/models',
      '/metrics',
    ].flatMap((path) => ['GET', 'POST', 'PUT', 'DELETE'].map((method) => ({ method, path })));
    const { bytes, statuses } = await growth(async (i) => {
      const own = i.toString(36);
      const bad = badRequest(random, own, routes);
      const body =
        random.below(3) === 0
          ? envelope(badCompletion(random, own), {
              tenant: `t${own}`,
              chain: [{ digest: sha256(own), scale: 1 }],
            })
          : bad.body;
      const { method, path } = body === bad.body ? bad : { method: 'POST', path: '/v1/chat/completions' };
      const headers = { ...bad.headers, 'x-graft-signature': `v1 kid=k1,t=${i},n=${own}` };
      // A third is signed, for this origin or another: signing takes longer than all the rest.
      if (random.below(3) === 0) {
        const originId = random.below(4) === 0 ? 'another' : ORIGIN_ID;
        const bodyHash = sha256(body ?? '');
        headers['x-graft-signature'] = await sign(
          KEY,
          { originId, method, pathAndQuery: path, bodyHash },
          Date.now(),
        );
      }
      return app.request(path, { method, headers, ...(body === undefined ? {} : { body }) });
    });
    await origin.stop();
    expect(origin.faults).toEqual([]);
    expect([...statuses].filter((status) => status === 500)).toEqual([]);
    expect(bytes).toBeLessThan(MAX_GROWTH_BYTES);
  });
});
