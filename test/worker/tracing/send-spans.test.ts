/** The edge's spans on their way to a receiver, which may be slow, down or wrong. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Span } from '../../../protocol/otlp.ts';
import { parseEnv } from '../../../worker/env.ts';
import { MAX_EXPORTED_SPANS, MAX_WAITING_SPANS } from '../../../worker/tracing/limits.ts';
import { createSpanSink, type SpanReceiver } from '../../../worker/tracing/send-spans.ts';

const RECEIVER: SpanReceiver = {
  url: 'http://collector.test/v1/traces',
  headers: { 'api-key': 'canary' },
  service: 'graft-edge',
};
const span = (n = 1): Span => ({
  ...{ traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: n.toString(16).padStart(16, '0') },
  ...{ name: 'auth', kind: 'internal', parentSpanId: null, parentIsRemote: false },
  ...{ startMs: 1_700_000_000_000, endMs: 1_700_000_000_001, attributes: {}, failed: false },
});

let lines: string[];
beforeEach(() => {
  lines = [];
  for (const method of ['log', 'warn', 'error'] as const)
    vi.spyOn(console, method).mockImplementation((line: string) => void lines.push(line));
});
afterEach(() => vi.restoreAllMocks());

/** @param answer of the receiver, by attempt. */
function rig(answer: (attempt: number) => Response | Promise<Response>) {
  let now = 0;
  let lost = 0;
  const sent: { url: string; init: RequestInit }[] = [];
  const work: Promise<unknown>[] = [];
  const sink = createSpanSink({
    receiver: RECEIVER,
    fetch: async (url, init) => {
      sent.push({ url, init });
      return answer(sent.length);
    },
    now: () => now,
    sleep: async (ms) => void (now += ms),
    onLost: (spans) => (lost += spans),
  });
  return {
    sent,
    record: (...spans: Span[]) => sink.record(spans, (one) => void work.push(one)),
    flushed: () => Promise.all(work),
    flushes: () => work.length,
    lost: () => lost,
    wait: (ms: number) => (now += ms),
    spansIn: (index: number) =>
      (
        JSON.parse(sent[index]?.init.body as string) as {
          resourceSpans: [{ resource: unknown; scopeSpans: [{ spans: { spanId: string }[] }] }];
        }
      ).resourceSpans[0].scopeSpans[0].spans,
  };
}

const ok = () => new Response('{}', { headers: { 'content-length': '2' } });

describe('spans of several requests', () => {
  it('go together, after the responses, with the receiver’s headers', async () => {
    const { record, flushed, flushes, sent, spansIn, lost } = rig(ok);
    record(span(1), span(2));
    record(span(3));
    expect(sent).toEqual([]);
    expect(flushes()).toBe(1);
    await flushed();
    expect(sent).toHaveLength(1);
    expect(sent[0]?.url).toBe(RECEIVER.url);
    expect(new Headers(sent[0]?.init.headers).get('api-key')).toBe('canary');
    expect(sent[0]?.init).toMatchObject({ method: 'POST', redirect: 'manual' });
    expect(spansIn(0).map(({ spanId }) => Number.parseInt(spanId, 16))).toEqual([1, 2, 3]);
    record(span(4));
    await flushed();
    expect(sent).toHaveLength(2);
    expect(lost()).toBe(0);
  });

  it('go in batches, and are dropped and counted beyond what an isolate keeps', async () => {
    const { record, flushed, sent, spansIn, lost } = rig(ok);
    for (let n = 0; n < MAX_WAITING_SPANS; n += 8)
      record(...Array.from({ length: 8 }, (_, at) => span(n + at + 1)));
    record(span(1), span(2));
    expect(lost()).toBe(2);
    await flushed();
    expect(sent).toHaveLength(MAX_WAITING_SPANS / MAX_EXPORTED_SPANS);
    for (const at of sent.keys()) expect(spansIn(at)).toHaveLength(MAX_EXPORTED_SPANS);
  });
});

describe('a receiver', () => {
  it('is asked again if it may take them later', async () => {
    const { record, flushed, sent, lost } = rig((attempt) =>
      attempt < 3 ? new Response(null, { status: attempt === 1 ? 503 : 429 }) : ok(),
    );
    record(span());
    await flushed();
    expect(sent).toHaveLength(3);
    expect(lost()).toBe(0);
    expect(lines).toEqual([]);
  });

  it.each([
    ['is down', 3, () => Promise.reject(new TypeError('connect to http://collector.test: canary'))],
    ['refuses them', 1, () => new Response('canary', { status: 400 })],
    ['redirects', 1, () => new Response(null, { status: 307, headers: { location: 'http://other.test' } })],
    ['is overloaded for long', 3, () => new Response(null, { status: 503 })],
  ])(
    'that %s costs spans, which are counted, and no exception; the log has no secret',
    async (_, attempts, answer) => {
      const { record, flushed, sent, lost } = rig(answer);
      record(span(1), span(2));
      await flushed();
      expect(sent).toHaveLength(attempts);
      expect(lost()).toBe(2);
      expect(lines).toHaveLength(1);
      expect(JSON.parse(lines[0] ?? '')).toMatchObject({
        event: 'traces_not_sent',
        spans: 2,
        level: 'warning',
      });
      expect(lines.join()).not.toContain('canary');
      // One line a minute.
      record(span(3));
      await flushed();
      expect(lost()).toBe(3);
      expect(lines).toHaveLength(1);
    },
  );

  it('may reject some', async () => {
    const { record, flushed, lost } = rig(() => {
      const body = '{"partialSuccess":{"rejectedSpans":"1"}}';
      return new Response(body, { headers: { 'content-length': String(body.length) } });
    });
    record(span(1), span(2));
    await flushed();
    expect(lost()).toBe(1);
  });

  it('that answers when the request is over has lost what was cut off, once', async () => {
    let answer: (response: Response) => void = () => undefined;
    const { record, flushed, flushes, lost, wait } = rig((attempt) =>
      attempt === 1 ? new Promise<Response>((resolve) => (answer = resolve)) : ok(),
    );
    record(span(1));
    await vi.waitFor(() => expect(answer).not.toBe(undefined));
    await new Promise((resolve) => setTimeout(resolve));
    wait(31_000);
    record(span(2));
    expect(flushes()).toBe(2);
    await vi.waitFor(() => expect(lost()).toBe(1));
    answer(new Response(null, { status: 400 }));
    await flushed();
    expect(lost()).toBe(1);
  });
});

describe('the edge’s variables', () => {
  const secret = Buffer.alloc(32, 5).toString('base64');
  const read = (more: Record<string, string>) =>
    parseEnv({
      ORIGINS: '[{"id":"o1","url":"https://origin.example.com"}]',
      ...{ GRAFT_ORIGIN_KEYS: `k1:${secret}`, GRAFT_MAC_KEY: secret },
      ...more,
    }).spanReceiver;

  it('say where spans go', () => {
    expect(read({})).toBeNull();
    expect(read({ OTEL_EXPORTER_OTLP_ENDPOINT: '', OTEL_EXPORTER_OTLP_HEADERS: 'a=1' })).toBeNull();
    expect(
      read({
        OTEL_EXPORTER_OTLP_ENDPOINT: 'https://c.example/base/',
        OTEL_EXPORTER_OTLP_HEADERS: 'a=1,b=x%20y',
      }),
    ).toEqual({
      url: 'https://c.example/base/v1/traces',
      headers: { a: '1', b: 'x y' },
      service: 'graft-edge',
    });
    expect(
      read({
        OTEL_EXPORTER_OTLP_ENDPOINT: 'https://c.example',
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'https://other.example/as-it-is',
        OTEL_SERVICE_NAME: 'mine',
      }),
    ).toEqual({ url: 'https://other.example/as-it-is', headers: {}, service: 'mine' });
  });

  it.each([
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4318'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'https://user:canary@collector'],
    ['OTEL_EXPORTER_OTLP_HEADERS', 'canary'],
    ['TRACE_SAMPLE', '2'],
  ])('are refused by name when %s is %s', (name, value) => {
    expect(() => read({ [name]: value })).toThrow(new RegExp(`${name}(?!.*canary)`));
  });
});
