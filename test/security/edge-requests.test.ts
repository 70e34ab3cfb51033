/** What no HTTP client would send, on raw sockets, against the real worker in workerd. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { chat, startTestEdge, type TestEdge } from '../worker/edge-harness.ts';
import { readAnswers, sendRaw } from './raw-socket.ts';

let graft: TestEdge;
let key: string;

beforeAll(async () => {
  graft = await startTestEdge();
  key = await graft.makeKey({ tenant: 'default' });
  expect((await graft.publish({ name: 'notes', adapter: tinyAdapter({ seed: 1 }) })).status).toBe(201);
});
afterAll(() => graft.stop());

/** How workerd itself refuses what its parser does not take, before any of our code runs. */
const REFUSED_BY_WORKERD =
  /^HTTP\/1\.1 500 [^\r]*\r\nConnection: close\r\nContent-Length: 21\r\n\r\nInternal Server Error$/gm;

/** @returns the answers; refusals by workerd as 400. */
const raw = async (lines: readonly string[], body = '') =>
  readAnswers(
    (await sendRaw(graft.edge.url, `${lines.join('\r\n')}\r\n\r\n${body}`)).replace(
      REFUSED_BY_WORKERD,
      'HTTP/1.1 400 Bad Request\r\n\r\n',
    ),
  );
const served = async () => {
  const response = await graft.request('/v1/chat/completions', { method: 'POST', key, body: chat('notes') });
  expect(response.status).toBe(200);
};

describe('Host', () => {
  const hosts = [
    'evil.example',
    'localhost',
    '127.0.0.1:1',
    'admin',
    'admin/keys',
    'a@b',
    '[::1]',
    '[::1',
    'xn--a',
    'a'.repeat(300),
    '..',
    '.',
    '%2e%2e',
    '/admin/keys#',
    '/admin/keys?',
    '\\admin',
    'evil.example:80:80',
    'é.example',
    '',
  ];

  it.each(hosts)('%j changes neither the route nor who may take it', async (host) => {
    const plain = await raw([
      'GET /v1/models HTTP/1.1',
      'Host: a',
      `Authorization: Bearer ${key}`,
      'Connection: close',
    ]);
    const odd = await raw([
      'GET /v1/models HTTP/1.1',
      `Host: ${host}`,
      `Authorization: Bearer ${key}`,
      'Connection: close',
    ]);
    expect(plain.statuses).toEqual([200]);
    // workerd itself refuses some.
    expect([200, 400]).toContain(odd.statuses[0] ?? 400);
    if (odd.statuses[0] === 200) expect(odd.bodyOf(0)).toBe(plain.bodyOf(0));
    const admin = await raw(['GET /admin/keys HTTP/1.1', `Host: ${host}`, 'Connection: close']);
    expect([400, 401]).toContain(admin.statuses[0] ?? 400);
  });

  it('none, or two', async () => {
    const none = await raw(['GET /admin/keys HTTP/1.1', 'Connection: close']);
    const two = await raw(['GET /admin/keys HTTP/1.1', 'Host: a', 'Host: b', 'Connection: close']);
    for (const { statuses } of [none, two]) expect([400, 401]).toContain(statuses[0] ?? 400);
    await served();
  });
});

describe('paths', () => {
  const targets = [
    '/admin/keys',
    '/v1/../admin/keys',
    '/v1/%2e%2e/admin/keys',
    '/v1/models/../../admin/keys',
    '/healthz/../admin/keys',
    '//admin/keys',
    '/admin//keys',
    '/./admin/keys',
    '/admin/./keys',
    '/admin/keys/',
    '/admin/keys/.',
    '/%61dmin/keys',
    '/ADMIN/keys',
    '/admin%2fkeys',
    '/admin;x=1/keys',
    '/admin/keys;x',
    '/admin/keys%00',
    '/admin\\keys',
    '/v1/models/..%2f..%2fadmin%2fkeys',
    '/v1/models/%2e%2e%2f%2e%2e%2fadmin%2fkeys',
    'http://evil.example/admin/keys',
    'http://admin/keys',
    '/?/admin/keys',
    '/#/admin/keys',
    '*',
  ];

  it.each(targets)('%s: the admin API answers to admin keys alone', async (target) => {
    for (const authorization of [[], [`Authorization: Bearer ${key}`]]) {
      const answer = await raw([`GET ${target} HTTP/1.1`, 'Host: a', ...authorization, 'Connection: close']);
      expect([400, 401, 404, 405]).toContain(answer.statuses[0] ?? 400);
      expect(answer.text).not.toContain('"keys"');
      expect(answer.text).not.toContain('key_');
    }
  });

  // What stands before the edge must look at paths as workerd does: docs/internals/security.md, "Not done".
  it.each<[string, number]>([
    ['/x/../admin/names', 200],
    ['/admin/./names', 200],
    ['/x/%2e%2e/admin/names', 404],
    ['/x/.%2E/admin/names', 404],
    ['/admin/%2e/names', 404],
    ['/admin\\names', 404],
    ['/x\\..\\admin/names', 404],
    ['//admin/names', 404],
  ])('%s: dots are resolved by workerd, before the worker, and by nobody else', async (target, status) => {
    const key = `Authorization: Bearer ${graft.adminKey}`;
    const answer = await raw([`GET ${target} HTTP/1.1`, 'Host: a', key, 'Connection: close']);
    expect(answer.statuses).toEqual([status]);
  });

  it('a method is what the request line says', async () => {
    for (const header of [
      'X-HTTP-Method-Override: DELETE',
      'X-HTTP-Method: DELETE',
      'X-Method-Override: DELETE',
    ]) {
      const answer = await raw([
        'POST /v1/models HTTP/1.1',
        'Host: a',
        `Authorization: Bearer ${key}`,
        header,
        'Content-Length: 0',
        'Connection: close',
      ]);
      expect(answer.statuses).toEqual([405]);
    }
  });
});

describe('smuggling', () => {
  const hidden = (adminKey: string) =>
    `GET /admin/keys HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${adminKey}\r\n\r\n`;
  const chunked = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`;

  it('is no trouble with what is well-formed: both are answered', async () => {
    const lines = ['POST /v1/models HTTP/1.1', 'Host: a', 'Content-Length: 0'];
    const answer = await raw(lines, hidden(graft.adminKey));
    expect(answer.statuses).toEqual([405, 200]);
    expect(answer.text).toContain('"keys"');
  });

  // What workerd does with these, and a proxy that counts by the length would not: docs/internals/security.md, "Not done".
  it.each<[string, string[]]>([
    ['a length', ['Content-Length: 6', 'Transfer-Encoding: chunked']],
    ['a tab', ['Transfer-Encoding:\tchunked', 'Content-Length: 5']],
    ['a space before the colon', ['Transfer-Encoding : chunked']],
    ['a bare newline', ['X: y\nTransfer-Encoding: chunked', 'Content-Length: 5']],
  ])(
    'chunks with %s are taken as chunks, and each request is judged by its own key',
    async (_what, headers) => {
      const first = [
        'POST /v1/chat/completions HTTP/1.1',
        'Host: a',
        `Authorization: Bearer ${key}`,
        ...headers,
      ];
      const body = '0\r\n\r\n';
      expect((await raw(first, body + hidden(graft.adminKey))).statuses).toEqual([400, 200]);
      expect((await raw(first, body + hidden(key))).statuses).toEqual([400, 401]);
    },
  );

  it.each<[string, string[], (request: string) => string]>([
    ['chunks and a length', ['Transfer-Encoding: chunked', 'Content-Length: 4'], (next) => chunked(next)],
    ['two lengths', ['Content-Length: 0', 'Content-Length: 44'], (next) => next],
    ['two lengths in one', ['Content-Length: 0, 44'], (next) => next],
    ['a length with a sign', ['Content-Length: +0'], (next) => next],
    ['a negative length', ['Content-Length: -1'], (next) => next],
    ['a hexadecimal length', ['Content-Length: 0x0'], (next) => next],
    ['an unknown coding', ['Transfer-Encoding: xchunked'], (next) => `0\r\n\r\n${next}`],
    [
      'a folded header',
      ['Transfer-Encoding:', ' chunked', 'Content-Length: 5'],
      (next) => `0\r\n\r\n${next}`,
    ],
    [
      'two codings',
      ['Transfer-Encoding: identity', 'Transfer-Encoding: chunked'],
      (next) => `0\r\n\r\n${next}`,
    ],
    ['a chunk with an extension', ['Transfer-Encoding: chunked'], (next) => `0;x=\r\n\r\n${next}`],
    ['a chunk size with a sign', ['Transfer-Encoding: chunked'], (next) => `-1\r\n${next}\r\n0\r\n\r\n`],
    ['a chunk size above 2^64', ['Transfer-Encoding: chunked'], (next) => `10000000000000000\r\n${next}`],
    ['a NUL', ['X: a\u0000b'], (next) => next],
  ])('%s: what follows is not taken for a request', async (_what, headers, body) => {
    const answer = await raw(
      ['POST /v1/chat/completions HTTP/1.1', 'Host: a', `Authorization: Bearer ${key}`, ...headers],
      body(hidden(graft.adminKey)),
    );
    // The first is a refusal in any case: its body is no chat. Were the second seen as a request, it would be answered.
    expect(answer.statuses.length).toBeLessThanOrEqual(2);
    for (const status of answer.statuses) {
      expect(status).toBeGreaterThanOrEqual(400);
      expect(status).toBeLessThan(500);
    }
    expect(answer.text).not.toContain('"keys"');
    await served();
  });
});

describe('headers', () => {
  it.each<[string, string]>([
    ['300 kB in one', `X: ${'a'.repeat(300_000)}`],
    ['20,000 of them', Array.from({ length: 20_000 }, (_, i) => `X${i}: a`).join('\r\n')],
    ['a key of 100 kB', `Authorization: Bearer ${'a'.repeat(100_000)}`],
    ['a line break in a key', 'Authorization: Bearer a\nX-Graft-Tenant: default'],
    ['no name', ': a'],
    ['bytes that are no text', 'X: \u00ff\u00fe'],
  ])('%s: refused, and the next request is served', async (_what, header) => {
    const answer = await raw(['GET /admin/keys HTTP/1.1', 'Host: a', header, 'Connection: close']);
    for (const status of answer.statuses) {
      expect(status).toBeGreaterThanOrEqual(400);
      expect(status).toBeLessThan(500);
    }
    await served();
  });
});
