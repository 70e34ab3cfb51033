/** Keys and names that are wrong, on every route of a running stack. */
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { generateApiKey } from '../../protocol/identity.ts';
import { bearer, CHAT, chatBody, textOf, useCanaryStack } from './canary-stack.ts';
import { send, type Answer } from './tiny-stack.ts';

const rig = useCanaryStack();
/** May use `alice/**` and nothing else. */
let aliceKey: string;

beforeAll(async () => {
  await rig.publish(path.join(rig.stack.folder, 'first'), 'secret/thing');
  const made = await rig.admin('/admin/keys', { tenant: 'alice', scopes: ['alice/**'] });
  aliceKey = (JSON.parse(made.text) as { key: string }).key;
});

describe('keys', () => {
  const routes: [string, string, string | undefined][] = [
    ['POST', CHAT, chatBody()],
    ['POST', '/v1/completions', '{"model":"alice/notes","prompt":"a"}'],
    ['GET', '/v1/models', undefined],
    ['GET', '/v1/models/alice/notes', undefined],
    ['GET', '/admin/names', undefined],
    ['POST', '/admin/versions', '{}'],
    ['PUT', `/admin/blobs/${'a'.repeat(64)}/parts/0`, 'x'],
    ['GET', '/admin/origins', undefined],
  ];
  it.each(routes)('%s %s: 401 whatever is wrong with the key', async (method, target, body) => {
    const forAdmin = target.startsWith('/admin');
    const { key, adminKey } = rig.stack.local;
    const right = forAdmin ? adminKey : key;
    const headers: Record<string, string>[] = [
      {},
      { authorization: right },
      { authorization: `Basic ${right}` },
      { authorization: 'Bearer ' },
      bearer(`${right.slice(0, -1)}${right.endsWith('x') ? 'y' : 'x'}`),
      bearer(generateApiKey(forAdmin ? 'ga' : 'gk')),
      bearer(forAdmin ? key : adminKey),
      bearer(`${right}${'x'.repeat(10_000)}`),
    ];
    for (const header of headers) {
      const answer = await send(rig.stack.local.url, target, {
        method,
        headers: header,
        ...(body === undefined ? {} : { body }),
      });
      expect([answer.status, answer.error.code]).toEqual([401, 'invalid_api_key']);
      expect(answer.headers['x-request-id']).toMatch(/.+/);
      if (right.length > 20) expect(answer.text).not.toContain(right);
    }
  });
});

describe('names', () => {
  const nameless = (answer: Answer, name: string) => ({
    status: answer.status,
    body: answer.text.replaceAll(name, '<name>'),
  });

  it('unknown and forbidden are one answer', async () => {
    const [forbidden, unknown] = ['secret/thing', 'secret/thinq'];
    const ask = (name: string) => [
      rig.chat({ model: name }, { key: aliceKey }),
      rig.post(JSON.stringify({ model: name, prompt: 'a' }), { key: aliceKey, target: '/v1/completions' }),
      send(rig.stack.local.url, `/v1/models/${name}`, { headers: bearer(aliceKey) }),
      send(rig.stack.local.url, `/v1/models/${encodeURIComponent(name)}`, { headers: bearer(aliceKey) }),
      rig.chat({ model: `${name}@1` }, { key: aliceKey }),
    ];
    const one = await Promise.all(ask(forbidden));
    const other = await Promise.all(ask(unknown));
    for (const [index, answer] of one.entries()) {
      expect([answer.status, answer.error.code]).toEqual([404, 'model_not_found']);
      expect(nameless(answer, forbidden)).toEqual(nameless(other[index] as Answer, unknown));
    }
  });

  it('suggests only what the key may use', async () => {
    // A key is given suggestions twice a second; the tests before this one may have had them.
    const told = (model: string, key?: string) =>
      expect.poll(async () => (await rig.chat({ model }, key === undefined ? {} : { key })).error.message, {
        interval: 600,
      });
    await told('secret/thinq').toContain("'secret/thing'");
    await told('alice/note', aliceKey).toContain("'alice/notes'");
    expect((await rig.chat({ model: 'secret/thinq' }, { key: aliceKey })).text).not.toContain('secret/thing');
    const listed = await send(rig.stack.local.url, '/v1/models', { headers: bearer(aliceKey) });
    expect(listed.text).toContain('alice/notes');
    expect(listed.text).not.toContain('secret');
  });

  const long = 'a'.repeat(65);
  const deep = 'a/b/c/d/e/f/g/h/i';
  const wide = `${`${'a'.repeat(31)}/`.repeat(8)}${'b'}`;
  const bad = [
    'Alice',
    'a b',
    'a//b',
    '/a',
    'a/',
    '.',
    'a/..',
    'a/../b',
    'é',
    'a\u0000',
    'a\nb',
    'a\\b',
    'a:b',
    'a%2fb',
    'v1',
    'v1/x',
    'admin/x',
    'base/x',
    long,
    deep,
    wide,
  ];
  const references = [
    ...bad,
    'alice/notes@0',
    'alice/notes@',
    '@1',
    'alice/notes@1@1',
    'alice/notes@x',
    `alice/notes@${'9'.repeat(30)}`,
  ];

  it.each(references.map((name) => [JSON.stringify(name), name]))('as a model: %s', async (_shown, name) => {
    const answers = await Promise.all([
      rig.chat({ model: name }),
      rig.post(JSON.stringify({ model: name, prompt: 'a' }), { target: '/v1/completions' }),
      send(rig.stack.local.url, `/v1/models/${encodeURIComponent(name)}`, {
        headers: bearer(rig.stack.local.key),
      }),
    ]);
    for (const answer of answers)
      expect([answer.status, answer.error.code]).toEqual([404, 'model_not_found']);
  });

  it.each([
    '/v1/models/%ff',
    '/v1/models/%',
    '/v1/models/a//b',
    '/v1/models/alice/%2e%2e/notes',
    '/v1/models/alice%2f..%2fnotes',
    '/v1/models/a?b',
    '/v1/models//',
  ])('as a path: %s', async (target) => {
    const answer = await send(rig.stack.local.url, target, { headers: bearer(rig.stack.local.key) });
    expect(answer.status).toBe(404);
    expect(['model_not_found', 'not_found']).toContain(answer.error.code);
  });

  it.each(bad.map((name) => [JSON.stringify(name), name]))('in the admin API: %s', async (_shown, name) => {
    const digest = 'a'.repeat(64);
    const asked: [string, Promise<Answer>][] = [
      ['name', rig.admin('/admin/versions', { name, digest })],
      ['parent', rig.admin('/admin/versions', { name: 'x', digest, parent: name })],
      ['name', rig.admin('/admin/promote', { name, version: 1 })],
      ['scopes.0', rig.admin('/admin/keys', { scopes: [`${name}/**`] })],
    ];
    for (const [param, answer] of asked)
      expect((await answer).error).toMatchObject({ code: 'invalid_request', param });
    const versions = await rig.admin(`/admin/versions?name=${encodeURIComponent(name)}`);
    expect([versions.status, versions.error.code]).toEqual([400, 'invalid_request']);
  });

  it('takes the longest name there may be', async () => {
    const name = `${`${'a'.repeat(31)}/`.repeat(7)}${'b'.repeat(32)}`;
    expect(name).toHaveLength(256);
    await rig.publish(path.join(rig.stack.folder, 'first'), name);
    expect(textOf(await rig.chat({ model: name }))).toBe(rig.text);
    const found = await send(rig.stack.local.url, `/v1/models/${name}`, {
      headers: bearer(rig.stack.local.key),
    });
    expect(JSON.parse(found.text)).toMatchObject({ id: name });
  });

  it('takes digests and part numbers of the right form only', async () => {
    for (const digest of ['A'.repeat(64), 'a'.repeat(63), '..', '%2e%2e%2fx', 'alice%2fnotes']) {
      const answers = await Promise.all([
        rig.admin(`/admin/blobs/${digest}`),
        rig.admin(`/admin/blobs/${digest}/parts/0`, Uint8Array.of(1), 'PUT'),
      ]);
      for (const { status } of answers) expect([400, 404]).toContain(status);
    }
    const digest = 'a'.repeat(64);
    expect((await rig.admin(`/admin/blobs/${digest}/parts/-1`, Uint8Array.of(1), 'PUT')).status).toBe(404);
    expect((await rig.admin(`/admin/blobs/${digest}/parts/42`, Uint8Array.of(1), 'PUT')).error.reason).toBe(
      'too_many_parts',
    );
  });
});
