/** Publications by pages: who may make a token, what it allows and refuses, and when it ends. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { NewKey } from '../../../protocol/admin-api/keys.ts';
import type { Publication, PublishToken } from '../../../protocol/browser-publications.ts';
import { hashApiKey, sha256Hex } from '../../../protocol/identity.ts';
import { KeyRecord } from '../../../worker/access/ports.ts';
import { createApp } from '../../../worker/app.ts';
import { trainingCard } from '../../contracts/sample-training.ts';
import { tinyAdapter, type TinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, verification, type AppHarness } from '../app-harness.ts';

const PAGE = 'https://app.example.com';
const NAME = 'clinic/notes/user-1';
const first = tinyAdapter({ seed: 11 });
const second = tinyAdapter({ seed: 12 });
/** Longer than what KV may be behind. */
const LATER_MS = 61_000;

interface Refusal {
  code: string;
  message: string;
  reason?: string;
}

let graft: AppHarness;
let app: ReturnType<typeof createApp>;
let key: NewKey;
let parentChain: string;

const admin = async (path: string, body: object, as?: string) => {
  const answer = await graft.request(path, { body, ...(as === undefined ? {} : { key: as }) });
  const text = await answer.text();
  return { status: answer.status, body: JSON.parse(text === '' ? 'null' : text) as Record<string, never> };
};
const makeKey = async (body: object, as?: string) =>
  (await admin('/admin/keys', body, as)).body as unknown as NewKey;

const send = (
  method: string,
  path: string,
  bearer: string,
  init: { headers?: object; body?: string | Uint8Array<ArrayBuffer> } = {},
) =>
  Promise.resolve(
    app.request(path, {
      method,
      ...(init.body === undefined ? {} : { body: init.body }),
      headers: { authorization: `Bearer ${bearer}`, origin: PAGE, ...init.headers },
    }),
  );
const mint = async (body: object = {}, as = key.key!) => {
  const answer = await send('POST', '/v1/publish-tokens', as, {
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: NAME, origin: PAGE, ...body }),
  });
  return { status: answer.status, body: (await answer.json()) as PublishToken & { error: Refusal } };
};
const token = async (body: object = {}): Promise<string> => (await mint(body)).body.token;

const putPart = (
  bearer: string,
  { digest, bytes }: TinyAdapter,
  { index = 0, headers = {} }: { index?: number; headers?: object } = {},
) =>
  send('PUT', `/v1/publications/parts/${index}?digest=${digest}&sha256=${digest}`, bearer, {
    headers: { 'content-length': String(bytes.length), ...headers },
    body: new Uint8Array(bytes),
  });
const close = (bearer: string, { digest, bytes }: TinyAdapter, more: object = {}, headers: object = {}) =>
  send('POST', '/v1/publications', bearer, {
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({
      digest,
      file: { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] },
      ...more,
    }),
  });
/** Both; the answer is that of the first that was refused. */
async function publish(bearer: string, adapter: TinyAdapter, more: object = {}): Promise<Response> {
  const sent = await putPart(bearer, adapter);
  return sent.ok ? close(bearer, adapter, more) : sent;
}
const refusal = async (answer: Response | Promise<Response>): Promise<[number, string]> => {
  const response = await answer;
  return [response.status, ((await response.json()) as { error: Refusal }).error.code];
};
const reasonOf = async (answer: Response): Promise<string> =>
  `${((await answer.json()) as { error: Refusal }).error.reason}`;
const versions = async (name = NAME) => (await graft.services.registry.versions(name)).length;

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  app = createApp({ ...graft.services, corsOrigins: [PAGE, 'https://other.example.com'] });
  const published = await graft.publish('clinic/notes', tinyAdapter({ seed: 1 }), { owner: 'clinic' });
  ({ chain_id: parentChain } = (await published.json()) as { chain_id: string });
  await graft.publish('secret', tinyAdapter({ seed: 2 }), { owner: 'other' });
  key = await makeKey({ tenant: 'clinic', publish: true });
});

it('publishes one staged version with its card, and answers a repetition with the same', async () => {
  const made = await mint();
  expect(made).toMatchObject({
    status: 200,
    body: { name: NAME, parent: null, origin: PAGE, versions: 1, max_bytes: 64 * 1024 ** 2 },
  });
  expect(made.body.expires_at - graft.clock.now()).toBe(10 * 60_000);
  const card = trainingCard();
  const answer = await publish(made.body.token, first, { name: NAME, training: card });
  const publication: Publication = {
    object: 'graft.publication',
    name: NAME,
    version: 1,
    digest: first.digest,
    live: false,
  };
  expect([answer.status, await answer.json()]).toEqual([201, publication]);
  expect(answer.headers.get('access-control-allow-origin')).toBe(PAGE);
  expect(answer.headers.get('cache-control')).toBe('no-store');

  const { registry } = graft.services;
  expect(await registry.name(NAME)).toMatchObject({ owner: 'clinic', version: null, latest: 1 });
  expect(await registry.describedVersion(NAME, 1)).toMatchObject({ createdBy: key.id, training: card });
  const [change] = await registry.history({ name: NAME, owner: null, before: null, limit: 1 });
  expect(change).toMatchObject({ action: 'stage', actor: key.id, why: `from a page of ${PAGE}` });
  const again = await close(made.body.token, first);
  expect([again.status, await again.json()]).toEqual([200, publication]);
  expect(await versions()).toBe(1);
  // Whoever is in charge makes it live.
  expect((await admin('/admin/promote', { name: NAME, version: 1 })).status).toBe(200);
});

it('stacks on the parent that the token names', async () => {
  const child = tinyAdapter({ seed: 3, parent: parentChain });
  const answer = await publish(await token({ parent: 'clinic/notes' }), child);
  expect(answer.status).toBe(201);
  expect(await graft.services.registry.version(NAME, 1)).toMatchObject({ parent: 'clinic/notes@1' });
  // It was trained on that chain, and this token is for the base.
  const other = await publish(await token(), tinyAdapter({ seed: 4, parent: parentChain }));
  expect([other.status, ((await other.json()) as { error: Refusal }).error.reason]).toEqual([
    422,
    'parent_mismatch',
  ]);
});

it('is off unless the key has the right, which tenants’ admin keys give to API keys', async () => {
  const plain = await makeKey({ tenant: 'clinic' });
  expect(plain.publish).toBe(false);
  expect((await mint({}, plain.key)).body.error.code).toBe('insufficient_scope');
  const owner = await makeKey({ kind: 'admin', tenant: 'clinic' });
  expect((await admin('/admin/keys', { publish: true }, owner.key)).status).toBe(201);
  expect((await admin('/admin/keys', { kind: 'admin', tenant: 'clinic', publish: true })).status).toBe(400);
  // Admin keys have no business in an application's server.
  expect((await mint({}, owner.key)).status).toBe(401);
  // With the key itself nothing is published.
  expect(await refusal(publish(key.key!, first))).toEqual([401, 'invalid_api_key']);
  expect((await graft.request('/admin/names', { key: key.key! })).status).toBe(401);
});

it('takes the right from D1, where whoever writes KV cannot make it up', async () => {
  const hash = await hashApiKey(key.key!);
  const { value } = (await graft.services.keys.get(hash)) as { value: object };
  expect(value).not.toHaveProperty('publish');
  expect(KeyRecord.safeParse({ ...value, publish: true }).success).toBe(false);
});

describe('a token is made', () => {
  it.each<[why: string, body: object, status: number, code: string]>([
    ['for a name of nobody', { name: 'free' }, 403, 'insufficient_scope'],
    ['for a name of another tenant', { name: 'secret' }, 403, 'insufficient_scope'],
    ['for a name below another tenant’s', { name: 'secret/mine' }, 403, 'insufficient_scope'],
    ['for no name', { name: 'clinic//x' }, 400, 'invalid_request'],
    ['on a parent without a right to it', { parent: 'secret' }, 404, 'model_not_found'],
    ['on a parent that is not there', { parent: 'clinic/none' }, 404, 'model_not_found'],
    ['for a page that the edge does not answer', { origin: 'https://evil.example' }, 400, 'invalid_request'],
    ['for any page', { origin: '*' }, 400, 'invalid_request'],
    ['for a live version', { stage: false }, 400, 'invalid_request'],
    ['for a larger file than any', { max_bytes: 128 * 1024 ** 2 + 1 }, 400, 'invalid_request'],
    ['for many versions', { versions: 6 }, 400, 'invalid_request'],
    ['for an hour', { expires_in: 3_600_000 }, 400, 'invalid_request'],
  ])('not %s', async (_, body, status, code) => {
    const made = await mint(body);
    expect([made.status, made.body.error.code]).toEqual([status, code]);
  });

  it('not for an alias, whose target stays untold', async () => {
    const owner = await makeKey({ kind: 'admin', tenant: 'clinic' });
    const alias = { name: 'clinic/notes/latest', target: 'clinic/notes' };
    expect((await admin('/admin/alias', alias, owner.key)).status).toBe(200);
    const made = await mint({ name: alias.name });
    expect([made.status, made.body.error.message]).toEqual([403, expect.stringContaining('is an alias.')]);
  });

  it('with the same words for a free name and another tenant’s', async () => {
    const [free, taken] = [await mint({ name: 'nothing' }), await mint({ name: 'secret' })];
    expect(free.body.error.message.replace('nothing', 'secret')).toBe(taken.body.error.message);
  });

  it('on a parent that was granted, while it is', async () => {
    await admin('/admin/grants', { scope: 'secret', tenant: 'clinic' });
    const made = await mint({ parent: 'secret' });
    expect(made.status).toBe(200);
    const [row] = await graft.services.registry.versions('secret');
    await graft.request('/admin/grants?scope=secret&tenant=clinic', { method: 'DELETE' });
    const child = tinyAdapter({ seed: 5, parent: row!.chainId });
    expect(await refusal(publish(made.body.token, child))).toEqual([404, 'model_not_found']);
    expect(await versions()).toBe(0);
  });
});

describe('with a token', () => {
  it.each<[does: string, ask: (good: string) => Response | Promise<Response>, status: number, code: string]>([
    [
      'another name is refused',
      (good) => publish(good, first, { name: 'clinic/notes' }),
      403,
      'insufficient_scope',
    ],
    ['a live version is refused', (good) => publish(good, first, { stage: false }), 400, 'invalid_request'],
    [
      'another parent is refused',
      (good) => publish(good, first, { parent: 'clinic/notes' }),
      400,
      'invalid_request',
    ],
    ['another owner is refused', (good) => publish(good, first, { owner: 'other' }), 400, 'invalid_request'],
    [
      'another page is refused',
      (good) => putPart(good, first, { headers: { origin: 'https://other.example.com' } }),
      401,
      'invalid_api_key',
    ],
    [
      'a part of 4 MiB and a byte is refused',
      (good) => putPart(good, first, { headers: { 'content-length': String(4 * 1024 ** 2 + 1) } }),
      413,
      'request_too_large',
    ],
    [
      'a part beyond the last is refused',
      (good) => putPart(good, first, { index: 42 }),
      422,
      'adapter_invalid',
    ],
    ['a file that was not sent is refused', (good) => close(good, first), 422, 'adapter_invalid'],
    [
      'a card that is none is refused',
      (good) => publish(good, first, { training: { a: 1 } }),
      400,
      'invalid_request',
    ],
  ])('%s', async (_, ask, status, code) => {
    expect(await refusal(ask(await token()))).toEqual([status, code]);
    expect(await versions()).toBe(0);
  });

  it('nothing else is opened', async () => {
    const good = await token();
    for (const [method, path] of [
      ['GET', '/v1/models'],
      ['GET', `/v1/downloads?name=${NAME}`],
      ['GET', '/v1/publications'],
      ['GET', `/admin/blobs/${first.digest}`],
      ['PUT', `/admin/blobs/${first.digest}/parts/0`],
      ['POST', '/admin/versions'],
      ['POST', '/v1/chat/completions'],
      ['POST', '/v1/publish-tokens'],
      ['POST', '/v1/download-tokens'],
    ] as const) {
      const answer = await send(method, path, good, method === 'GET' ? {} : { body: '{}' });
      expect([path, answer.status < 400 || answer.status >= 500]).toEqual([path, false]);
      expect([path, [401, 405].includes(answer.status)]).toEqual([path, true]);
    }
  });

  it('a download token is no publish token, nor the other way round', async () => {
    await admin('/admin/keys/change', { id: key.id, download: true });
    graft.clock.advance(LATER_MS);
    const made = await send('POST', '/v1/download-tokens', key.key!, {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ names: [NAME], origin: PAGE }),
    });
    const { token: download } = (await made.json()) as { token: string };
    expect(await refusal(publish(download, first))).toEqual([401, 'invalid_api_key']);
    const [, payload, mac] = download.split('.');
    expect(await refusal(publish(`gp_v1.${payload}.${mac}`, first))).toEqual([401, 'invalid_api_key']);
    const good = await token();
    const [, ours, ourMac] = good.split('.');
    for (const other of [good, `gd_v1.${ours}.${ourMac}`])
      expect((await send('GET', `/v1/downloads?name=${NAME}`, other)).status).toBe(401);
  });

  it('nothing is accepted once a character of it is another', async () => {
    const good = await token();
    for (let at = 0; at < good.length; at += 1) {
      const changed = good.slice(0, at) + (good[at] === 'A' ? 'B' : 'A') + good.slice(at + 1);
      expect((await close(changed, first)).status).toBe(401);
    }
    for (const odd of ['', 'gp_v1', 'gp_v1..', `${good}.`, good.slice(0, -1), 'x'.repeat(3_000)])
      expect((await close(odd, first)).status).toBe(401);
  });
});

it('takes the longest token that it gives', async () => {
  app = createApp({ ...graft.services, corsOrigins: ['*'] });
  const long = (start: string) =>
    `${start}/${'x'.repeat(48)}/${'y'.repeat(48)}/${'z'.repeat(48)}/`.padEnd(200, 'a');
  const name = `${long('clinic/notes')}/${'b'.repeat(48)}`.slice(0, 256);
  const origin = `https://${Array.from({ length: 4 }, () => 'h'.repeat(61)).join('.')}`;
  const made = await mint({ name, origin, versions: 5, max_bytes: 128 * 1024 ** 2 });
  expect(made.status).toBe(200);
  const sent = await putPart(made.body.token, first, { headers: { origin } });
  expect(sent.status).toBe(200);
});

describe('a token ends', () => {
  it('when it expires', async () => {
    const good = await token({ expires_in: 20_000 });
    graft.clock.advance(19_999);
    expect((await putPart(good, first)).status).toBe(200);
    graft.clock.advance(1);
    expect(await refusal(close(good, first))).toEqual([401, 'invalid_api_key']);
  });

  it.each<[how: string, end: () => Promise<unknown>]>([
    ['is revoked', () => graft.request(`/admin/keys/${key.id}`, { method: 'DELETE' })],
    ['loses the right', () => admin('/admin/keys/change', { id: key.id, publish: false })],
    ['is rotated without grace', () => admin('/admin/keys/rotate', { id: key.id, grace: 0 })],
  ])('at once when its key %s', async (_, end) => {
    const good = await token();
    expect((await putPart(good, first)).status).toBe(200);
    await end();
    expect(await refusal(close(good, first))).toEqual([401, 'invalid_api_key']);
    expect(await refusal(putPart(good, first))).toEqual([401, 'invalid_api_key']);
    expect(await versions()).toBe(0);
  });

  it('even when the key is revoked while an origin tries the file', async () => {
    const good = await token();
    const { answer } = graft.origin;
    graft.origin.answer = async (method, path, init, url) => {
      if (path.endsWith('/verify')) await graft.request(`/admin/keys/${key.id}`, { method: 'DELETE' });
      return answer(method, path, init, url);
    };
    expect(await refusal(publish(good, first))).toEqual([401, 'invalid_api_key']);
    expect(await versions()).toBe(0);
  });

  it('when the name is removed, also while an origin tries the file', async () => {
    await publish(await token(), second);
    await admin('/admin/promote', { name: NAME, version: 1 });
    const good = await token();
    const { answer } = graft.origin;
    graft.origin.answer = async (method, path, init, url) => {
      if (path.endsWith('/verify')) await admin('/admin/remove', { name: NAME });
      return answer(method, path, init, url);
    };
    expect(await refusal(publish(good, first))).toEqual([403, 'insufficient_scope']);
    expect(await graft.services.registry.name(NAME)).toMatchObject({ latest: 1 });
    expect((await mint()).status).toBe(403);
  });
});

describe('a token makes no more versions than it says', () => {
  it('of another file', async () => {
    const good = await token();
    expect((await publish(good, first)).status).toBe(201);
    expect(await refusal(putPart(good, second))).toEqual([403, 'publish_token_spent']);
    // Nor with a file that the tenant has sent itself.
    const owner = await makeKey({ kind: 'admin', tenant: 'clinic' });
    await sendAsAdmin(second, owner.key!);
    expect(await refusal(close(good, second))).toEqual([422, 'adapter_invalid']);
    expect(await versions()).toBe(1);
  });

  it('of the same file, when another version came in between', async () => {
    const good = await token();
    await publish(good, first);
    await publish(await token(), second);
    expect(await versions()).toBe(2);
    const again = await close(good, first);
    expect([again.status, await again.json()]).toMatchObject([200, { version: 1 }]);
    expect(await refusal(putPart(good, first))).toEqual([403, 'publish_token_spent']);
    expect(await versions()).toBe(2);
  });

  it('when two files are sent at once', async () => {
    const good = await token();
    const answers = await Promise.all([first, second].map((file) => publish(good, file)));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 403]);
    const published = answers[0]!.ok ? first : second;
    expect((await close(good, published)).status).toBe(200);
    expect(await versions()).toBe(1);
  });

  it('when it publishes a file twice at once', async () => {
    const good = await token();
    await putPart(good, first);
    const answers = await Promise.all([close(good, first), close(good, first)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 201]);
    expect(await versions()).toBe(1);
  });

  it('of several, if it is for several', async () => {
    const good = await token({ versions: 2 });
    for (const file of [first, second]) expect((await publish(good, file)).status).toBe(201);
    expect(await refusal(publish(good, tinyAdapter({ seed: 13 })))).toEqual([403, 'publish_token_spent']);
  });
});

describe('a token bounds what is sent', () => {
  it('counting a part that does not say its length as the largest', async () => {
    const good = await token({ max_bytes: 4 * 1024 ** 2 });
    const path = `/v1/publications/parts/0?digest=${first.digest}&sha256=${first.digest}`;
    for (let sent = 0; sent < 3; sent += 1)
      expect((await send('PUT', path, good, { body: new Uint8Array(first.bytes) })).status).toBe(200);
    expect(await refusal(putPart(good, first))).toEqual([403, 'publish_token_spent']);
  });

  it('by the size of the file', async () => {
    const good = await token({ max_bytes: first.bytes.length - 1 });
    expect(await refusal(putPart(good, first))).toEqual([413, 'request_too_large']);
    const exact = await token({ max_bytes: first.bytes.length });
    expect((await publish(exact, first)).status).toBe(201);
  });

  it('to three times the file, a part counting for a MiB', async () => {
    const good = await token({ max_bytes: first.bytes.length });
    for (let sent = 0; sent < 3; sent += 1) expect((await putPart(good, first)).status).toBe(200);
    expect(await refusal(putPart(good, first))).toEqual([403, 'publish_token_spent']);
    expect((await close(good, first)).status).toBe(201);
  });

  it('and how often a file is tried', async () => {
    const good = await token();
    await putPart(good, first);
    const { answer } = graft.origin;
    graft.origin.answer = (method, path, init, url) =>
      path.endsWith('/verify') ? new Response('', { status: 500 }) : answer(method, path, init, url);
    for (let tries = 0; tries < 10; tries += 1) {
      const [status] = await refusal(close(good, first));
      expect(status).toBe(503);
      graft.clock.advance(1_000);
    }
    graft.origin.answer = answer;
    expect(await refusal(close(good, first))).toEqual([403, 'publish_token_spent']);
  });

  it('and how many requests of it, and of all tokens of its tenant, run at once', async () => {
    const tokens = await Promise.all(Array.from({ length: 4 }, () => token()));
    for (const [i, good] of tokens.entries()) await putPart(good, tinyAdapter({ seed: 30 + i }));
    const { answer } = graft.origin;
    let go = (): void => undefined;
    const held = new Promise<void>((resolve) => (go = resolve));
    let verifying = 0;
    graft.origin.answer = async (method, path, init, url) => {
      if (path.endsWith('/verify')) {
        verifying += 1;
        await held;
      }
      return answer(method, path, init, url);
    };
    const ask = (i: number) => Promise.resolve(close(tokens[i]!, tinyAdapter({ seed: 30 + i })));
    const waiting = [0, 0, 1, 1, 2, 2].map(ask);
    await vi.waitFor(() => expect(verifying).toBe(waiting.length));
    const [own, tenants] = [await ask(0), await ask(3)];
    for (const [refused, whose] of [
      [own, 'This publish token has 2 requests'],
      [tenants, 'This tenant has 6 requests'],
    ] as const) {
      expect([refused.status, ((await refused.json()) as { error: Refusal }).error.message]).toEqual([
        429,
        expect.stringContaining(whose),
      ]);
      expect(refused.headers.get('retry-after')).not.toBeNull();
    }
    // Neither other tenants, nor this one's server and admins.
    await admin('/admin/rooms', { name: 'ward', tenant: 'ward' });
    const ward = await makeKey({ tenant: 'ward', publish: true });
    const other = (await mint({ name: 'ward/x' }, ward.key)).body.token;
    expect((await putPart(other, second)).status).toBe(200);
    expect((await mint()).status).toBe(200);
    go();
    await Promise.all(waiting);
    expect((await ask(3)).status).toBe(201);
  });
});

it('keeps a page’s parts apart from what the tenant is sending of the same file', async () => {
  const owner = await makeKey({ kind: 'admin', tenant: 'clinic' });
  const put = await graft.request(`/admin/blobs/${second.digest}/parts/0`, {
    method: 'PUT',
    key: owner.key!,
    body: new Uint8Array(second.bytes),
  });
  expect(put.status).toBe(200);
  // Junk under its digest …
  const good = await token();
  const junk = new Uint8Array(first.bytes);
  const sent = await send(
    'PUT',
    `/v1/publications/parts/0?digest=${second.digest}&sha256=${first.digest}`,
    good,
    {
      headers: { 'content-length': String(junk.length) },
      body: junk,
    },
  );
  expect(sent.status).toBe(200);
  // … neither breaks the tenant's upload, nor becomes the file.
  expect(await refusal(close(good, second))).toEqual([422, 'adapter_invalid']);
  const record = {
    bytes: second.bytes.length,
    parts: [{ bytes: second.bytes.length, sha256: second.digest }],
  };
  expect(
    (await graft.request(`/admin/blobs/${second.digest}`, { key: owner.key!, body: record })).status,
  ).toBe(201);
});

it('refuses what no admin could publish either', async () => {
  const reasons: string[] = [];
  const other = tinyAdapter({ seed: 20, shape: { in: 9, out: 6 } });
  const junk = { bytes: Buffer.alloc(64, 7), digest: await sha256Hex(new Uint8Array(64).fill(7)) };
  for (const file of [other, junk]) reasons.push(await reasonOf(await publish(await token(), file)));
  const { answer } = graft.origin;
  graft.origin.answer = (method, path, init, url) =>
    path.endsWith('/verify')
      ? Response.json({ ...verification(init), ok: false, reason: 'no_change' })
      : answer(method, path, init, url);
  reasons.push(await reasonOf(await publish(await token(), tinyAdapter({ seed: 21 }))));
  expect(reasons).toEqual(['shape_mismatch', 'header_too_large', 'no_op']);
  expect(await versions()).toBe(0);
});

it('forgets what a page sent some time after its token has expired, and not before', async () => {
  await publish(await token(), first);
  const rows = async () =>
    (await graft.db.prepare('SELECT * FROM page_uploads').all<object>()).results.length;
  graft.clock.advance(24 * 3_600_000);
  await graft.services.pageUploads.tend(graft.clock.now());
  expect(await rows()).toBe(1);
  graft.clock.advance(2 * 3_600_000);
  await graft.services.pageUploads.tend(graft.clock.now());
  expect(await rows()).toBe(0);
});

async function sendAsAdmin({ bytes, digest }: TinyAdapter, as: string): Promise<void> {
  await graft.request(`/admin/blobs/${digest}/parts/0`, {
    method: 'PUT',
    key: as,
    body: new Uint8Array(bytes),
  });
  const body = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] };
  expect((await graft.request(`/admin/blobs/${digest}`, { key: as, body })).ok).toBe(true);
}
