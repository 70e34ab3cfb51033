import { beforeEach, describe, expect, it, vi } from 'vitest';
import { MAX_KEEP_BODY_BYTES } from '../../protocol/admin-api/evaluations.ts';
import { MAX_EVALUATION_BODY_BYTES } from '../../protocol/admin-api/operation.ts';
import { MAX_BODY_BYTES, MAX_JSON_DEPTH, MAX_PART_BYTES } from '../../protocol/limits.ts';
import { MAX_FORM_BYTES } from '../../worker/training/limits.ts';
import { createApp } from '../../worker/app.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';
import { isAdmin, routesOf, type Route } from './routes.ts';

const PIECE = new Uint8Array(64 * 1024).fill(0x20);

let graft: AppHarness;
let app: ReturnType<typeof createApp>;
let key: string;
/** Of the edge's own page. */
let token: string;

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  app = createApp(graft.services);
  const made = await graft.request('/admin/keys', {
    body: { scopes: ['**'], publish: true, train: true, keep_prompts: 1, improve: true },
  });
  ({ key } = (await made.json()) as { key: string });
  await graft.request('/admin/rooms', { body: { name: 'x', tenant: 'default' } });
  const body = { name: 'x/y', origin: 'http://localhost', versions: 5 };
  ({ token } = (await (await graft.request('/v1/publish-tokens', { key, body })).json()) as {
    token: string;
  });
});

/** Largest body that any route of this kind takes, bytes. */
const limitOf = ({ path }: Pick<Route, 'path'>): number =>
  isForm({ path })
    ? MAX_FORM_BYTES
    : path.includes('/parts/')
      ? MAX_PART_BYTES
      : path === '/admin/evaluations'
        ? MAX_KEEP_BODY_BYTES
        : Math.max(MAX_BODY_BYTES, MAX_EVALUATION_BODY_BYTES);
const isForm = ({ path }: Pick<Route, 'path'>): boolean => path === '/v1/files';

const withBody = (): Route[] => routesOf(app).filter(({ method }) => method === 'POST' || method === 'PUT');

/** A body that does not end before `bytes`; its length is not announced. */
function endless(bytes: number): { stream: ReadableStream<Uint8Array>; taken: () => number } {
  let taken = 0;
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (taken >= bytes) return controller.close();
      taken += PIECE.length;
      controller.enqueue(PIECE);
    },
  });
  return { stream, taken: () => taken };
}

const isPage = ({ path }: Route): boolean => path.startsWith('/v1/publications');
/** What a part of a page says of itself. */
const DIGESTS = `?digest=${'a'.repeat(64)}&sha256=${'b'.repeat(64)}`;

const send = (
  route: Route,
  body: string | ReadableStream<Uint8Array>,
  headers: Record<string, string> = {},
) =>
  app.request(isPage(route) && route.path.includes('/parts/') ? route.path + DIGESTS : route.path, {
    method: route.method,
    headers: {
      authorization: `Bearer ${isAdmin(route) ? graft.adminKey : isPage(route) ? token : key}`,
      'sec-fetch-site': 'same-origin',
      ...(isForm(route) ? { 'content-type': 'multipart/form-data; boundary=x' } : {}),
      ...headers,
    },
    body,
    duplex: 'half',
  } as RequestInit);

describe('too large a body', () => {
  it('is refused with 413 on every route that takes one, its length announced or not', async () => {
    const routes = withBody();
    expect(routes.length).toBeGreaterThanOrEqual(9);
    for (const route of routes) {
      // A tenant's large bodies, and its refusals, are taken in a few a second.
      graft.clock.advance(1_000);
      const limit = limitOf(route);
      const name = `${route.method} ${route.path}`;
      const chunked = await send(route, endless(limit + PIECE.length).stream);
      expect([name, chunked.status]).toEqual([name, 413]);
      const announced = await send(route, 'x', { 'content-length': String(limit * 10) });
      expect([name, announced.status]).toEqual([name, 413]);
    }
  });

  it('is not read to its end when it has none', async () => {
    for (const route of withBody()) {
      // A tenant's large bodies are taken in a few a second.
      graft.clock.advance(1_000);
      const body = endless(Number.MAX_SAFE_INTEGER);
      expect((await send(route, body.stream)).status).toBe(413);
      expect(body.taken()).toBeLessThan(limitOf(route) * 5);
    }
  });

  it('of a stranger is not waited for', async () => {
    // Who signs in by a link is one; its body is small, and refused before it is read whole.
    for (const route of withBody().filter(({ path }) => path !== '/dashboard/sign-in')) {
      const body = endless(Number.MAX_SAFE_INTEGER);
      const response = await send(route, body.stream, { authorization: 'Bearer nobody' });
      expect(response.status).toBe(401);
      // What arrives while the key is looked up is read.
      expect(body.taken()).toBeLessThan(4 * MAX_BODY_BYTES);
    }
  });
});

describe('JSON bombs', () => {
  const nested = (open: string, close: string, depth: number) => open.repeat(depth) + close.repeat(depth);
  const bombs: [string, string][] = [
    ['arrays one too deep', nested('[', ']', MAX_JSON_DEPTH + 1)],
    ['arrays 400,000 deep', nested('[', ']', 400_000)],
    ['objects 100,000 deep', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`],
    ['unclosed', '['.repeat(900_000)],
    ['in a field that may hold anything', `{"model":"base","metadata":{"a":${nested('[', ']', 200_000)}}}`],
    ['20,000 keys', `{${Array.from({ length: 20_000 }, (_, i) => `"k${i}":1`).join(',')}}`],
    ['one key 90,000 times', `{${'"model":"a",'.repeat(70_000)}"model":"b"}`],
    ['a number of 900,000 digits', `{"model":"base","seed":${'9'.repeat(900_000)}}`],
    ['a huge exponent', '{"model":"base","temperature":1e999999}'],
    ['half a surrogate', '{"model":"\\ud800","messages":[]}'],
    ['a key named __proto__', '{"__proto__":{"polluted":true},"model":"base","messages":[]}'],
    ['a key named constructor', '{"constructor":{"prototype":{"polluted":true}},"model":"base"}'],
    ['__proto__ in metadata', '{"model":"base","messages":[],"metadata":{"__proto__":{"polluted":true}}}'],
    ['a byte order mark', '\ufeff{"model":"base"}'],
    ['nothing but spaces', ' '.repeat(900_000)],
    ['nothing but quotes', '"'.repeat(900_001)],
    ['nothing but backslashes in a string', `"${'\\\\'.repeat(400_000)}"`],
  ];

  it.each(bombs)('%s: 400 on every route, and nothing stays behind', async (_what, body) => {
    for (const route of withBody()) {
      if (route.path.includes('/parts/')) continue;
      graft.clock.advance(1_000);
      const response = await send(route, body);
      expect([route.path, [400, 404, 413].includes(response.status)]).toEqual([route.path, true]);
      expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    }
    expect((await app.request('/healthz')).status).toBe(200);
  });

  it('as deep as may be passes, brackets in strings do not count', async () => {
    const depth = MAX_JSON_DEPTH - 2;
    const ask = (metadata: string) =>
      send(
        { method: 'POST', path: '/v1/chat/completions' },
        `{"model":"base","messages":[{"role":"user","content":"${'[{'.repeat(1_000)}\\"["}],"metadata":${metadata}}`,
      );
    expect((await ask(`{"a":${nested('[', ']', depth)}}`)).status).toBe(200);
    expect((await ask(`{"a":${nested('[', ']', depth + 1)}}`)).status).toBe(400);
  });
});
