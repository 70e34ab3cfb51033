import http from 'node:http';
import OpenAI, { APIError, AuthenticationError, NotFoundError, toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MAX_BODY_BYTES, MAX_MESSAGES } from '../../protocol/limits.ts';
import { TINY_BASE, tinyAdapter } from '../fakes/tiny-adapters.ts';
import { chat, startTestEdge, type TestEdge } from './edge-harness.ts';

let graft: TestEdge;
let key: string;
let openai: OpenAI;

const NAME = 'medicine/cardiology/dr-lee';
const adapter = tinyAdapter({ seed: 1 });

beforeAll(async () => {
  graft = await startTestEdge();
  key = await graft.makeKey({ tenant: 'default' });
  expect((await graft.publish({ name: NAME, adapter })).status).toBe(201);
  openai = new OpenAI({ baseURL: `${graft.edge.url}/v1`, apiKey: key, maxRetries: 0 });
});
afterAll(() => graft.stop());

const messages = [{ role: 'user' as const, content: 'hi' }];

describe('the openai client', () => {
  it('completes, streams and lists', async () => {
    const whole = await openai.chat.completions.create({ model: NAME, messages });
    expect(whole.model).toBe(NAME);
    expect(whole.choices[0]?.message.content).toContain(adapter.digest.slice(0, 8));
    expect(whole._request_id).toMatch(/^[\w-]+$/);
    const stream = await openai.chat.completions.create({ model: NAME, messages, stream: true });
    let text = '';
    let finish: string | null = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
    }
    expect(text).toContain(adapter.digest.slice(0, 8));
    expect(finish).toBe('stop');
    const ids = [];
    for await (const model of openai.models.list()) ids.push(model.id);
    expect(ids).toEqual([TINY_BASE.id, NAME]);
  });

  it('sends a file of several parts, reads it back, and creates a job with it', async () => {
    const trainer = await graft.makeKey({ tenant: 'default', train: true });
    const client = new OpenAI({ baseURL: `${graft.edge.url}/v1`, apiKey: trainer, maxRetries: 0 });
    const rows = Buffer.from(`${JSON.stringify({ prompt: 'x'.repeat(1_000) })}\n`.repeat(5_000));
    const file = await client.files.create({ file: await toFile(rows, 'rows.jsonl'), purpose: 'fine-tune' });
    expect(file).toMatchObject({ bytes: rows.length, filename: 'rows.jsonl', purpose: 'fine-tune' });
    const content = await (await client.files.content(file.id)).arrayBuffer();
    expect(Buffer.from(content).equals(rows)).toBe(true);
    const { jobs } = client.fineTuning;
    const job = await jobs.create({ model: NAME, training_file: file.id, suffix: 'tuned' });
    expect((await jobs.cancel(job.id)).status).toBe('cancelled');
    expect(await client.files.delete(file.id)).toMatchObject({ deleted: true });
    await expect(client.files.content(file.id)).rejects.toBeInstanceOf(NotFoundError);
  });

  it('finds a model by a name with slashes, raw and encoded', async () => {
    const model = await openai.models.retrieve(NAME);
    expect(model).toMatchObject({ id: NAME, object: 'model', owned_by: 'default' });
    expect(model.created).toBeGreaterThan(1_600_000_000);
    for (const path of [NAME, encodeURIComponent(NAME), 'medicine/cardiology%2fdr-lee', `${NAME}@1`]) {
      const response = await graft.request(`/v1/models/${path}`, { key });
      expect(response.status).toBe(200);
      expect(await response.json()).toMatchObject({ root: TINY_BASE.id });
    }
    expect(await (await graft.request(`/v1/models/${TINY_BASE.id}`, { key })).json()).toMatchObject({
      id: TINY_BASE.id,
    });
    for (const path of [
      '%ff',
      'medicine%00',
      '..%2fadmin',
      'medicine//x',
      `${NAME}/`,
      'MEDICINE',
      'm%C3%A9',
      'a@x',
    ])
      expect((await graft.request(`/v1/models/${path}`, { key })).status).toBe(404);
  });

  it('gets typed errors', async () => {
    // A key is given suggestions only so often a second.
    const apiKey = await graft.makeKey({ tenant: 'default' });
    const fresh = new OpenAI({ baseURL: `${graft.edge.url}/v1`, apiKey, maxRetries: 0 });
    const missing = fresh.chat.completions.create({ model: 'medicine/cardiology/dr-le', messages });
    await expect(missing).rejects.toBeInstanceOf(NotFoundError);
    await expect(missing).rejects.toMatchObject({ code: 'model_not_found', type: 'invalid_request_error' });
    await expect(missing).rejects.toThrow(`Did you mean '${NAME}'?`);
    const stranger = new OpenAI({ baseURL: `${graft.edge.url}/v1`, apiKey: 'sk-wrong', maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toBeInstanceOf(AuthenticationError);
    const bad = openai.chat.completions.create({ model: NAME, messages, temperature: 3 });
    await expect(bad).rejects.toMatchObject({ status: 400, param: 'temperature', code: 'invalid_request' });
    await expect(bad).rejects.toBeInstanceOf(APIError);
    const functions = openai.chat.completions.create({ model: NAME, messages, functions: [{ name: 'f' }] });
    await expect(functions).rejects.toMatchObject({
      status: 400,
      param: 'functions',
      code: 'unsupported_parameter',
    });
  });
});

describe('names', () => {
  it('answers the same to unknown and forbidden ones, and suggests only what the key may use', async () => {
    const other = await graft.makeKey({ tenant: 'other' });
    const ask = async (model: string, withKey: string) => {
      const response = await graft.request('/v1/chat/completions', {
        method: 'POST',
        key: withKey,
        body: chat(model),
      });
      return { status: response.status, text: (await response.text()).replaceAll(model, 'NAME') };
    };
    const forbidden = await ask(NAME, other);
    expect(forbidden.status).toBe(404);
    expect(forbidden).toEqual(await ask('medicine/cardiology/dr-lea', other));
    expect(forbidden.text).not.toContain('Did you mean');
    const retrieved = await graft.request(`/v1/models/${NAME}`, { key: other });
    const absent = await graft.request('/v1/models/medicine/cardiology/dr-lea', { key: other });
    expect([retrieved.status, absent.status]).toEqual([404, 404]);
    const list = (await (await graft.request('/v1/models', { key: other })).json()) as {
      data: { id: string }[];
    };
    expect(list.data.map(({ id }) => id)).toEqual([TINY_BASE.id]);

    const scoped = await graft.makeKey({ tenant: 'other', scopes: ['medicine/**'] });
    expect((await ask(NAME, scoped)).status).toBe(200);
    const page = await graft.request(`/v1/models?prefix=medicine/&after=medicine/a`, { key: scoped });
    expect(await page.json()).toMatchObject({ data: [{ id: NAME }], has_more: false });
  });

  it('needs the right to every member of the chain', async () => {
    const { versions } = (await (await graft.admin(`/admin/versions?name=${NAME}`)).json()) as {
      versions: { chain_id: string }[];
    };
    const child = tinyAdapter({ seed: 5, parent: versions[0]?.chain_id ?? '' });
    const published = await graft.publish({
      name: 'carol/own',
      adapter: child,
      parent: NAME,
      owner: 'carol',
    });
    expect(published.status).toBe(201);
    const carol = await graft.makeKey({ tenant: 'carol' });
    const both = await graft.makeKey({ tenant: 'carol', scopes: [NAME] });
    const ask = (withKey: string) =>
      graft.request('/v1/chat/completions', { method: 'POST', key: withKey, body: chat('carol/own') });
    expect((await ask(carol)).status).toBe(404);
    expect((await ask(both)).status).toBe(200);
  });
});

describe('limits', () => {
  const post = (body: NonNullable<RequestInit['body']>, init: object = {}) =>
    graft.request('/v1/chat/completions', { method: 'POST', key, body, ...init });
  const padded = (bytes: number) => {
    const empty = chat('base', { user: '', metadata: { pad: '' } });
    return chat('base', { user: '', metadata: { pad: 'x'.repeat(bytes - empty.length) } });
  };

  it('takes a body of the limit and refuses one byte more, announced or chunked', async () => {
    expect((await post(padded(MAX_BODY_BYTES))).status).toBe(200);
    expect((await post(padded(MAX_BODY_BYTES + 1))).status).toBe(413);
    const chunked = (text: string) => post(new Blob([text]).stream(), { duplex: 'half' } as RequestInit);
    expect((await chunked(padded(MAX_BODY_BYTES))).status).toBe(200);
    const over = await chunked(padded(MAX_BODY_BYTES + 1));
    expect(over.status).toBe(413);
    expect(await over.json()).toMatchObject({ error: { code: 'request_too_large' } });
  });

  const biases = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, id) => [String(id), 1]));

  it('holds the table of fields at its boundaries', async () => {
    const cases: [object, number][] = [
      [{ stop: Array.from({ length: 32 }, () => 'a') }, 200],
      [{ stop: Array.from({ length: 33 }, () => 'a') }, 400],
      [{ stop: 'x'.repeat(256) }, 200],
      [{ stop: 'x'.repeat(257) }, 400],
      [{ logprobs: true, top_logprobs: 21 }, 200],
      [{ messages: Array.from({ length: MAX_MESSAGES }, () => messages[0]) }, 200],
      [{ messages: Array.from({ length: MAX_MESSAGES + 1 }, () => messages[0]) }, 400],
      [{ n: 8 }, 200],
      [{ n: 9 }, 400],
      [{ logit_bias: biases(300) }, 200],
      [{ logit_bias: biases(301) }, 400],
      [{ model: 'x'.repeat(513) }, 400],
    ];
    for (const [fields, status] of cases)
      expect((await post(chat('base', fields))).status, JSON.stringify(fields).slice(0, 60)).toBe(status);
  });

  it('refuses what is no JSON object, and wrong methods and routes', async () => {
    for (const body of ['', '{', '[]', 'null', '"x"', '\u{feff}{}'])
      expect((await post(body)).status, JSON.stringify(body)).toBe(400);
    expect((await post(new Uint8Array([0x7b, 0xff, 0x7d]))).status).toBe(400);
    const get = await graft.request('/v1/chat/completions', { key });
    expect([get.status, get.headers.get('allow')]).toEqual([405, 'POST']);
    const none = await graft.request('/v1/moderations', { method: 'POST', key, body: '{}' });
    expect(none.status).toBe(404);
    expect(none.headers.get('x-request-id')).not.toBeNull();
    expect(none.headers.get('x-content-type-options')).toBe('nosniff');
  });
});

describe('streams', () => {
  it('passes each event on as it comes and closes the origin when the client goes', async () => {
    graft.origin.hold();
    const model = `${NAME}@1`;
    const { response, request } = await new Promise<{
      response: http.IncomingMessage;
      request: http.ClientRequest;
    }>((resolve, reject) => {
      const sent = http.request(
        `${graft.edge.url}/v1/chat/completions`,
        { method: 'POST', headers: { authorization: `Bearer ${key}` } },
        (answer) => resolve({ response: answer, request: sent }),
      );
      sent.on('error', reject);
      sent.end(chat(model, { stream: true }));
    });
    expect(response.headers['content-type']).toBe('text/event-stream; charset=utf-8');
    const first = await new Promise<Buffer>((resolve) => response.once('data', resolve));
    expect(first.toString()).toContain('"role":"assistant"');
    response.on('error', () => undefined);
    request.on('error', () => undefined);
    request.destroy();
    await graft.origin.waitForAbort(model);
    expect(graft.origin.log.aborted).toContain(model);
    graft.origin.release();
  });
});

describe('trouble at the origin', () => {
  const post = () => graft.request('/v1/chat/completions', { method: 'POST', key, body: chat('base') });

  it('passes on its word about the request, with its retry headers', async () => {
    graft.origin.answerWith((response) => {
      response.writeHead(429, {
        'content-type': 'application/json',
        'retry-after': '3',
        'retry-after-ms': '2500',
      });
      response.end('{"error":{"message":"full","type":"rate_limit_error","param":null,"code":"queue_full"}}');
    });
    const response = await post();
    expect([response.status, response.headers.get('retry-after-ms')]).toEqual([429, '2500']);
    expect(await response.json()).toMatchObject({ error: { code: 'queue_full' } });
  });

  it.each([
    ['a refused signature', 401, '{"error":{"message":"x","code":"invalid_signature"}}'],
    ["a proxy's page", 502, '<html>'],
    ['a redirect', 302, ''],
  ])('takes %s for an origin that is not there', async (_, status, body) => {
    graft.origin.answerWith((response) => {
      response.writeHead(status, { location: 'http://127.0.0.1:1/' });
      response.end(body);
    });
    const response = await post();
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBe('2');
    expect(response.headers.get('x-should-retry')).toBe('true');
    expect(await response.json()).toMatchObject({ error: { code: 'origin_unavailable' } });
  });

  it('waits while it loads', async () => {
    let asked = 0;
    graft.origin.answerWith((response) => {
      asked += 1;
      if (asked === 3) graft.origin.answerWith(null);
      response.writeHead(409, { 'content-type': 'application/json', 'retry-after-ms': '5' });
      response.end('{"error":{"message":"x","code":"adapter_loading"}}');
    });
    expect((await post()).status).toBe(200);
    expect(asked).toBe(3);
  });

  it('gives up on an origin that asks for what is not in the chain', async () => {
    graft.origin.answerWith((response) => {
      response.writeHead(409, { 'content-type': 'application/json' });
      response.end(`{"error":{"message":"x","code":"adapter_missing","missing":["${adapter.digest}"]}}`);
    });
    const before = graft.origin.log.announced.length;
    const response = await post();
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ error: { code: 'adapter_unavailable' } });
    expect(graft.origin.log.announced.length).toBe(before);
    graft.origin.answerWith(null);
  });

  it('reports residents to the operator', async () => {
    const report = (await (await graft.admin('/admin/origins')).json()) as {
      origins: { id: string; base: { id: string }; residents: { adapters: { digest: string }[] } }[];
    };
    const [origin] = report.origins;
    expect([origin?.id, origin?.base.id]).toEqual(['o1', TINY_BASE.id]);
    expect(origin?.residents.adapters.map(({ digest }) => digest)).toContain(adapter.digest);
    const tenant = await graft.makeAdminKey('someone');
    expect(await (await graft.admin('/admin/origins', { key: tenant })).json()).toMatchObject({
      origins: [{ residents: null }],
    });
  });

  it('answers 503 and when to come back once it is down', async () => {
    await graft.origin.stop();
    const response = await post();
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBe('2');
    expect(await response.json()).toMatchObject({ error: { code: 'origin_unavailable' } });
    expect((await graft.request('/healthz')).status).toBe(200);
    expect(await (await graft.admin('/admin/origins')).json()).toEqual({
      origins: [{ id: 'o1', base: null, reason: expect.stringMatching(/\S/) as string, residents: null }],
    });
  });
});
