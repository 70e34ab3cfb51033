/** Traces of a whole origin with the fake runner, at a receiver of OTLP over HTTP in JSON. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Tracer } from '../../../gpu-origin/tracing/tracer.ts';
import { readTracingConfig, TracingConfigError } from '../../../gpu-origin/tracing/tracing-config.ts';
import { envelope, signedFetch, startTestOrigin, type Origin } from './harness.ts';
import { type ReceivedSpan, startReceiver } from './otlp-receiver.ts';

const [TRACE, PARENT] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7'];
const CHAT = '/v1/chat/completions';
const chat = {
  model: 'base',
  messages: [{ role: 'user', content: 'a secret question' }],
  max_tokens: 3,
  temperature: 0.5,
  stop: ['a secret stop'],
  ignore_eos: true,
};

let receiver: Awaited<ReturnType<typeof startReceiver>>;
let origin: Origin | null = null;
let tracer: Tracer;
let counts: Record<string, number>;
let troubles: string[];
beforeEach(async () => {
  receiver = await startReceiver();
});
afterEach(async () => {
  await origin?.stop();
  origin = null;
  await receiver.stop();
});

function trace(env: Record<string, string> = {}): Tracer {
  counts = { sent: 0, dropped: 0, failed: 0 };
  troubles = [];
  tracer = new Tracer({
    config: readTracingConfig(
      { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_BSP_SCHEDULE_DELAY: '1', ...env },
      'origin-1',
    )!,
    onSpans: (outcome, spans) => (counts[outcome]! += spans),
    onTrouble: (reason) => troubles.push(reason),
    firstWaitMs: 1,
  });
  return tracer;
}

async function start(env: Record<string, string> = {}): Promise<Origin> {
  origin = await startTestOrigin({ signed: true, context: { tracer: trace(env) } });
  return origin;
}

async function ask(
  request: object = {},
  { graft = {}, traceparent }: { graft?: Record<string, unknown>; traceparent?: string } = {},
): Promise<Response> {
  const response = await signedFetch(origin!, CHAT, {
    body: envelope({ ...chat, ...request }, graft),
    headers: traceparent === undefined ? {} : { traceparent },
  });
  await response.text();
  return response;
}

/** The spans of a request that has ended. */
async function spans(most = 1): Promise<ReceivedSpan[]> {
  const { received } = receiver;
  await expect.poll(() => received.spans.filter(({ kind }) => kind === 2).length).toBe(most);
  expect(received.problems).toEqual([]);
  return received.spans;
}

describe('a trace of a request', () => {
  it('has a server span below the edge’s, and a child for each stage', async () => {
    const { adapter } = await start();
    const chain = [{ digest: adapter, scale: 1 }];
    await ask({ stream: true }, { graft: { chain }, traceparent: `00-${TRACE}-${PARENT}-01` });
    const [server, ...stages] = await spans();
    expect(server).toMatchObject({
      ...{ traceId: TRACE, parentSpanId: PARENT, flags: 0x301, kind: 2, name: 'chat alice/notes' },
      attributes: {
        'gen_ai.system': 'graft',
        'gen_ai.operation.name': 'chat',
        'gen_ai.request.model': 'alice/notes',
        'gen_ai.request.id': 'r1',
        'gen_ai.request.max_tokens': '3',
        'gen_ai.request.temperature': 0.5,
        'gen_ai.usage.output_tokens': '3',
        'gen_ai.usage.completion_tokens': '3',
        'gen_ai.response.finish_reasons': ['length'],
        'http.route': CHAT,
        'http.response.status_code': '200',
        'graft.adapter.name': 'alice/notes',
        'graft.adapter.digest': adapter,
        'graft.adapter.tenant': 't1',
        'graft.adapter.chain_id': expect.stringMatching(/^[0-9a-f]{64}$/),
        'graft.adapter.cold_load_ms': expect.stringMatching(/^\d+$/),
      },
    });
    expect(stages.map(({ name }) => name)).toEqual(['queue', 'load adapter', 'prefill', 'decode']);
    for (const stage of stages) {
      expect(stage).toMatchObject({ traceId: TRACE, parentSpanId: server!.spanId, flags: 0x101, kind: 1 });
      expect(BigInt(stage.startTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(server!.startTimeUnixNano));
      expect(BigInt(stage.endTimeUnixNano)).toBeLessThanOrEqual(BigInt(server!.endTimeUnixNano));
    }
    const latencies = Object.keys(server!.attributes).filter((key) => key.startsWith('gen_ai.latency.'));
    expect(latencies.map((key) => key.slice('gen_ai.latency.'.length)).toSorted()).toEqual([
      'e2e',
      'time_in_model_decode',
      'time_in_model_inference',
      'time_in_model_prefill',
      'time_in_queue',
      'time_to_first_token',
    ]);
  });

  it('loads no adapter that is in memory', async () => {
    const { adapter } = await start();
    const graft = { chain: [{ digest: adapter, scale: 1 }] };
    await ask({}, { graft });
    await ask({}, { graft });
    const all = await spans(2);
    expect(all.filter(({ name }) => name === 'load adapter')).toHaveLength(1);
    expect(all.findLast(({ kind }) => kind === 2)?.attributes).not.toHaveProperty(
      'graft.adapter.cold_load_ms',
    );
  });

  it('has no word of prompt, answer or stop strings, and no key', async () => {
    await start({ OTEL_EXPORTER_OTLP_HEADERS: 'api-key=canary%20key' });
    const response = await signedFetch(origin!, CHAT, { body: envelope({ ...chat, stream: false }) });
    const answer = (await response.json()) as { choices: { message: { content: string } }[] };
    await spans();
    const text = receiver.received.bodies.join();
    expect(answer.choices[0]!.message.content.length).toBeGreaterThan(0);
    for (const secret of ['secret', 'canary', answer.choices[0]!.message.content])
      expect(text).not.toContain(secret);
    expect(receiver.received.headers[0]).toMatchObject({ 'api-key': 'canary key' });
  });

  it('counts each prompt once', async () => {
    await start();
    const body = envelope({ model: 'base', prompt: ['hello', 'hello'], n: 2, max_tokens: 1 });
    const response = await signedFetch(origin!, '/v1/completions', { body });
    const { usage } = (await response.json()) as { usage: { prompt_tokens: number } };
    const [server] = await spans();
    expect(server?.attributes['gen_ai.usage.input_tokens']).toBe(String(usage.prompt_tokens));
  });

  it('has the newest names where they are asked for', async () => {
    await start({ OTEL_SEMCONV_STABILITY_OPT_IN: 'http, gen_ai_latest_experimental' });
    await ask({ stream: true });
    const [server] = await spans();
    expect(server?.attributes).toMatchObject({
      'gen_ai.provider.name': 'graft',
      'gen_ai.request.stream': true,
    });
    for (const old of ['gen_ai.system', 'gen_ai.usage.prompt_tokens', 'gen_ai.request.n'])
      expect(server?.attributes).not.toHaveProperty(old);
  });

  it('says why a request has no answer; only the server’s failures are errors', async () => {
    await start();
    await ask({ temperature: 'hot' });
    const [server, ...stages] = await spans();
    expect(server?.attributes).toMatchObject({
      'error.type': 'invalid_request',
      'http.response.status_code': '400',
    });
    expect(server).not.toHaveProperty('status');
    expect(stages).toEqual([]);
  });

  it('marks a model that fails as an error', async () => {
    origin = await startTestOrigin({
      signed: true,
      context: { tracer: trace() },
      runner: {
        duringStep({ kind }) {
          if (kind === 'decode') throw new Error('a secret reason');
          return undefined;
        },
      },
    });
    await ask({ stream: true });
    const all = await spans();
    const status = { code: 2 };
    expect(all[0]).toMatchObject({ status, attributes: { 'error.type': 'internal_error' } });
    expect(all.at(-1)).toMatchObject({ name: 'decode', status });
    expect(receiver.received.bodies.join()).not.toContain('secret');
  });

  it('is recorded as the edge decides, and begins here without a valid traceparent', async () => {
    await start();
    await ask({}, { traceparent: `00-${TRACE}-${PARENT}-00` });
    await ask({}, { traceparent: `00-${'0'.repeat(32)}-${PARENT}-01` });
    await ask();
    const servers = (await spans(2)).filter(({ kind }) => kind === 2);
    for (const server of servers) {
      expect(server).not.toHaveProperty('parentSpanId');
      expect(server.traceId).not.toBe(TRACE);
    }
    expect(servers[0]?.traceId).not.toBe(servers[1]?.traceId);
  });
});

describe('sending', () => {
  it('tells the receiver who sends, at its address for traces', async () => {
    await start({ OTEL_SERVICE_NAME: 'mine', OTEL_RESOURCE_ATTRIBUTES: 'zone=a%2Cb,service.name=other' });
    await ask();
    await spans();
    const { paths, headers, resources } = receiver.received;
    expect(paths).toEqual(['/v1/traces']);
    expect(headers[0]).toMatchObject({ 'content-type': 'application/json' });
    expect(resources[0]).toMatchObject({
      'service.name': 'mine',
      'service.instance.id': 'origin-1',
      zone: 'a,b',
    });
  });

  it('tries again what may be accepted later, and drops what never is', async () => {
    receiver.received.statuses.push(503, 429);
    await start();
    await ask();
    const { length } = await spans();
    await expect.poll(() => counts).toEqual({ sent: length, dropped: 0, failed: 0 });
    expect(troubles).toEqual(['status 503']);
    receiver.received.statuses.push(400);
    await ask();
    await expect.poll(() => counts['failed']).toBeGreaterThan(0);
    expect(receiver.received.paths).toHaveLength(4);
  });

  it('counts what the receiver rejects', async () => {
    receiver.received.answer = '{"partialSuccess":{"rejectedSpans":"2"}}';
    await start();
    await ask();
    const { length } = await spans();
    await expect.poll(() => counts).toEqual({ sent: length - 2, dropped: 0, failed: 2 });
  });

  it('drops whole requests when the queue is full, and answers them all the same', async () => {
    let release = (): void => undefined;
    receiver.received.held = new Promise<void>((resolve) => (release = resolve));
    await start({ OTEL_BSP_MAX_QUEUE_SIZE: '8', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '4' });
    for (let n = 0; n < 12; n += 1) expect((await ask()).status).toBe(200);
    expect(counts['dropped']).toBeGreaterThan(0);
    expect(counts['dropped']! % 4).toBe(0);
    release();
    await expect.poll(() => counts['sent']! + counts['dropped']!).toBe(48);
    expect(receiver.received.problems).toEqual([]);
  });

  it('sends at its end what waits', async () => {
    await start({ OTEL_BSP_SCHEDULE_DELAY: '600000' });
    await ask();
    expect(receiver.received.spans).toEqual([]);
    await tracer.close();
    expect(receiver.received.spans.map(({ name }) => name)).toContain('decode');
    await ask();
    expect(counts['dropped']).toBe(4);
  });

  it('ends although nobody receives', async () => {
    receiver.received.held = new Promise(() => undefined);
    await start();
    await ask();
    await tracer.close();
    expect(counts['sent']).toBe(0);
  });

  it('follows no redirect, and logs no header', async () => {
    receiver.received.statuses.push(307, 307, 307, 307, 307);
    await start({ OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Bearer%20canary' });
    await ask();
    await expect.poll(() => counts['failed']).toBe(4);
    expect(troubles.join()).not.toContain('canary');
  });
});

describe('OpenTelemetry’s variables', () => {
  const ENDPOINT = 'http://collector:4318/base/';
  const read = (env: Record<string, string>) =>
    readTracingConfig({ OTEL_EXPORTER_OTLP_ENDPOINT: ENDPOINT, ...env }, null);

  it('switch traces on by an endpoint, and off', () => {
    expect(readTracingConfig({}, null)).toBeNull();
    expect(readTracingConfig({ OTEL_EXPORTER_OTLP_ENDPOINT: '' }, null)).toBeNull();
    expect(read({ OTEL_SDK_DISABLED: 'TRUE' })).toBeNull();
    expect(read({ OTEL_SDK_DISABLED: '1' })?.url).toBe('http://collector:4318/base/v1/traces');
  });

  it('of traces alone have precedence', () => {
    expect(
      read({
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://other/as-it-is',
        OTEL_EXPORTER_OTLP_HEADERS: 'a=1',
        OTEL_EXPORTER_OTLP_TRACES_HEADERS: 'b=2, c=3%3D',
        OTEL_EXPORTER_OTLP_TIMEOUT: '5',
        OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: '7',
        OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'http/json',
      }),
    ).toMatchObject({ url: 'https://other/as-it-is', headers: { b: '2', c: '3=' }, timeoutMs: 7 });
  });

  it.each([
    [undefined, undefined, { parentBased: true, share: 1 }],
    ['always_off', undefined, { parentBased: false, share: 0 }],
    ['parentbased_traceidratio', '0.25', { parentBased: true, share: 0.25 }],
    ['traceidratio', undefined, { parentBased: false, share: 1 }],
  ])('sample by %s %s', (name = '', arg = '', sampler) => {
    expect(read({ OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: arg })?.sampler).toEqual(sampler);
  });

  it.each([
    ['OTEL_EXPORTER_OTLP_PROTOCOL', 'grpc'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'http://user:canary@collector'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4318'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'canary'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'key=canary%0ax'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'key=canary%'],
    ['OTEL_EXPORTER_OTLP_TIMEOUT', '-1'],
    ['OTEL_TRACES_SAMPLER', 'xray'],
    ['OTEL_TRACES_SAMPLER_ARG', '2'],
    ['OTEL_RESOURCE_ATTRIBUTES', '=x'],
  ])('end the start by name when %s is %s', (name, value) => {
    const start = (): unknown => read({ [name]: value });
    expect(start).toThrow(TracingConfigError);
    expect(start).toThrow(new RegExp(`^${name}: (?!.*canary)`));
  });
});

describe('a share of traces', () => {
  it('is the same for all who see a trace', () => {
    const half = { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.5' };
    const [one, other] = [trace(half), trace(half)];
    const parents = Array.from({ length: 400 }, () => one.begin(null));
    const sampled = parents.filter((parent) => parent.sampled);
    for (const parent of parents) expect(other.begin(parent).sampled).toBe(parent.sampled);
    expect(sampled.length).toBeGreaterThan(120);
    expect(sampled.length).toBeLessThan(280);
  });
});
