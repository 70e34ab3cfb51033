/** Spans of requests at the edge: what is recorded, and below which span origins are. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Span } from '../../../protocol/otlp.ts';
import { parseTraceparent } from '../../../protocol/trace-context.ts';
import { createObserver, noPoints } from '../../../worker/http/request.ts';
import { edgeSpans } from '../../../worker/tracing/edge-spans.ts';
import type { RuntimeSpan } from '../../../worker/tracing/ports.ts';
import { TINY_BASE, tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness, type AppHarnessOptions } from '../app-harness.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';
const CHAT = '/v1/chat/completions';

let edge: AppHarness;
let spans: Span[];
/** `traceparent` of what the origin was asked, by path. */
let asked: { path: string; spanId: string | undefined }[];

async function open(options: AppHarnessOptions = {}): Promise<void> {
  spans = [];
  asked = [];
  edge = await createAppHarness({
    traceShare: 1,
    observer: createObserver({
      ...{ points: noPoints, logSample: 0, pointSample: 1 },
      onTraced: (ended) => void spans.push(...edgeSpans(ended)),
    }),
    ...options,
  });
  const { answer } = edge.origin;
  edge.origin.answer = (method, path, init, url) => {
    asked.push({ path, spanId: parseTraceparent(new Headers(init.headers).get('traceparent'))?.spanId });
    return answer(method, path, init, url);
  };
}

const newKey = async (rights: object = {}): Promise<string> =>
  ((await (await edge.request('/admin/keys', { body: rights })).json()) as { key: string }).key;

async function ask(key: string, model = 'base', headers: Record<string, string> = {}): Promise<Response> {
  const response = await edge.request(CHAT, {
    ...{ key, headers },
    body: { model, max_tokens: 1, messages: [{ role: 'user', content: 'a secret question' }] },
  });
  await response.clone().text();
  await edge.settled();
  return response;
}

const named = (name: string): Span[] => spans.filter((span) => span.name === name);

beforeEach(async () => {
  vi.spyOn(console, 'error').mockReturnValue(undefined);
  await open();
});
afterEach(() => vi.restoreAllMocks());

describe('the trace of a request at the edge', () => {
  it('has a server span below the client’s, a span a stage, and the origin below that of its attempt', async () => {
    const adapter = tinyAdapter({ seed: 1 });
    await edge.publish('alice/notes', adapter);
    const key = await newKey({ limits: { requests_per_minute: 9 }, trust_trace: true });
    await ask(key, 'alice/notes', { traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'vendor=1' });
    const [server, ...stages] = spans;
    expect(server).toMatchObject({
      ...{ name: `POST ${CHAT}`, kind: 'server', failed: false, state: 'vendor=1' },
      ...{ traceId: TRACE, parentSpanId: SPAN, parentIsRemote: true },
      attributes: {
        'http.request.method': 'POST',
        'http.route': CHAT,
        'http.response.status_code': 200,
        'graft.adapter.name': 'alice/notes',
        'graft.adapter.version': 1,
        'graft.adapter.tenant': 'default',
        'graft.adapter.chain_id': expect.stringMatching(/^[0-9a-f]{64}$/),
        'graft.origin': 'o1',
        'graft.key_id': expect.stringMatching(/^key_/),
        'error.type': null,
      },
    });
    expect(stages.map(({ name }) => name)).toEqual(['auth', 'quota', 'resolve', 'choose', 'origin']);
    for (const stage of stages)
      expect(stage).toMatchObject({ traceId: TRACE, parentSpanId: server?.spanId, parentIsRemote: false });
    const attempt = named('origin')[0];
    expect(attempt).toMatchObject({ kind: 'client', attributes: { 'http.response.status_code': 200 } });
    expect(asked.find(({ path }) => path === CHAT)?.spanId).toBe(attempt?.spanId);
    expect(new Set(spans.map(({ spanId }) => spanId)).size).toBe(spans.length);
    for (const { startMs, endMs } of spans) expect(endMs).toBeGreaterThanOrEqual(startMs);
  });

  it('counts no tokens, and has no word of the prompt and no unpublished name', async () => {
    const key = await newKey();
    await ask(key);
    await ask(key, 'a-secret/name');
    const text = JSON.stringify(spans);
    expect(spans.length).toBeGreaterThan(4);
    for (const word of ['secret', 'tokens', key]) expect(text).not.toContain(word);
    expect(spans.findLast(({ kind }) => kind === 'server')).toMatchObject({
      failed: false,
      attributes: { 'http.response.status_code': 404, 'error.type': 'model_not_found' },
    });
  });

  it('has a span for each attempt, and for each file that it brings', async () => {
    await open({ origins: ['o1', 'o2'].map((id) => ({ id, url: `http://${id}.test` })) });
    const adapter = tinyAdapter({ seed: 2 });
    await edge.publish('alice/notes', adapter);
    const key = await newKey();
    const { answer } = edge.origin;
    let broken = 1;
    let missing = 1;
    edge.origin.answer = (method, path, init, url) => {
      const response = answer(method, path, init, url);
      if (path === CHAT && (broken -= 1) >= 0) throw new Error('connection refused');
      if (path === CHAT && (missing -= 1) >= 0)
        return Response.json(
          { error: { code: 'adapter_missing', message: 'no', missing: [adapter.digest] } },
          { status: 409 },
        );
      if (path === `/adapters/${adapter.digest}`) return Response.json({ missing_parts: [0] });
      return path.includes('/parts/') ? new Response(null, { status: 204 }) : response;
    };
    expect((await ask(key, 'alice/notes')).status).toBe(200);
    const attempts = named('origin');
    expect(attempts.map(({ attributes }) => attributes['http.response.status_code'])).toEqual([
      null,
      409,
      200,
    ]);
    expect(attempts[0]).toMatchObject({ failed: true, attributes: { 'error.type': 'unreachable' } });
    expect(asked.flatMap(({ path, spanId }) => (path === CHAT ? [spanId] : []))).toEqual(
      attempts.map(({ spanId }) => spanId),
    );
    expect(named('bring adapter')).toMatchObject([
      {
        kind: 'client',
        failed: false,
        attributes: {
          'graft.origin': attempts[1]?.attributes['graft.origin'],
          'graft.adapter.digest': adapter.digest,
          'graft.adapter.bytes': adapter.bytes.length,
        },
      },
    ]);
  });

  it('ends with the last byte of a stream, whose span begins with the origin’s headers', async () => {
    const key = await newKey();
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    edge.origin.answer = (_method, path) => {
      if (path === '/base') return Response.json(TINY_BASE);
      const events = new ReadableStream({
        async pull(controller) {
          await held;
          controller.enqueue(new TextEncoder().encode('data: [DONE]\n\n'));
          controller.close();
        },
      });
      return new Response(events, { headers: { 'content-type': 'text/event-stream' } });
    };
    const response = await edge.request(CHAT, {
      key,
      body: { model: 'base', stream: true, messages: [{ role: 'user', content: 'hi' }] },
    });
    expect(spans).toEqual([]);
    edge.clock.advance(40);
    release();
    await response.text();
    await edge.settled();
    const server = spans[0];
    const [stream] = named('stream');
    expect(stream?.endMs).toBe(server?.endMs);
    expect((stream?.endMs ?? 0) - (stream?.startMs ?? 0)).toBeGreaterThanOrEqual(40);
    expect(stream?.startMs).toBe(named('origin')[0]?.endMs);
  });

  it('tells of refusals, also of unknown keys', async () => {
    const limited = await newKey({ limits: { requests_per_minute: 1 } });
    await ask(limited);
    spans.length = 0;
    expect((await ask(limited)).status).toBe(429);
    expect(named('quota')).toMatchObject([{ attributes: { 'error.type': 'rate_limit_exceeded' } }]);
    spans.length = 0;
    expect((await ask('gk_unknown')).status).toBe(401);
    expect(spans.map(({ name }) => name)).toEqual([`POST ${CHAT}`, 'auth']);
    expect(spans[0]?.attributes).toMatchObject({ 'error.type': '401', 'graft.adapter.tenant': undefined });
  });

  it('is not recorded for other requests, nor when the edge does not sample it', async () => {
    await edge.request('/healthz');
    await edge.request('/admin/keys');
    expect(spans).toEqual([]);
    await open({ traceShare: 0 });
    await ask(await newKey(), 'base', { traceparent: `00-${TRACE}-${SPAN}-01` });
    expect(spans).toEqual([]);
  });

  it('tells the origin which version and which variant it runs', async () => {
    await edge.publish('alice/notes', tinyAdapter({ seed: 3 }));
    const key = await newKey();
    const bodies: { graft: object }[] = [];
    const { answer } = edge.origin;
    edge.origin.answer = (method, path, init, url) => {
      if (path === CHAT) bodies.push(JSON.parse(init.body as string) as { graft: object });
      return answer(method, path, init, url);
    };
    await ask(key, 'alice/notes');
    await ask(key);
    expect(bodies[0]?.graft).toMatchObject({ adapter: { name: 'alice/notes', version: 1 } });
    expect(bodies[0]?.graft).not.toHaveProperty('experiment');
    expect(bodies[1]?.graft).not.toHaveProperty('adapter');
  });
});

describe('Workers’ own tracing', () => {
  it('gets a span a stage, with what is known at its end, and each ends', async () => {
    const begun: { name: string; attributes: Record<string, unknown>; over: boolean }[] = [];
    await open({
      traceShare: 0,
      runtimeTracing: {
        enterSpan<T>(name: string, callback: (span: RuntimeSpan) => T): T {
          const one = { name, attributes: {} as Record<string, unknown>, over: false };
          begun.push(one);
          const result = callback({ setAttribute: (key, value) => void (one.attributes[key] = value) });
          void Promise.resolve(result).then(() => (one.over = true));
          return result;
        },
      },
    });
    expect((await ask(await newKey())).status).toBe(200);
    expect(begun.map(({ name }) => name)).toEqual(['auth', 'resolve', 'choose', 'origin']);
    expect(begun.every(({ over }) => over)).toBe(true);
    expect(begun.at(-1)?.attributes).toMatchObject({
      'graft.origin': 'o1',
      'http.response.status_code': 200,
    });
    expect(spans).toEqual([]);
  });

  it('disturbs nothing when it fails', async () => {
    await open({
      runtimeTracing: {
        enterSpan() {
          throw new Error('beta');
        },
      },
    });
    expect((await ask(await newKey())).status).toBe(200);
    expect(named('origin')).toHaveLength(1);
  });
});
