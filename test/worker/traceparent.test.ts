/** A client's trace through the edge to the origin, and into the log. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseTraceparent } from '../../protocol/trace-context.ts';
import { createObserver, noPoints } from '../../worker/http/request.ts';
import { createAppHarness, type AppHarness } from './app-harness.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';

let edge: AppHarness;
let key: string;
let lines: Record<string, unknown>[];
/** Headers of what the origin was asked for by clients. */
let asked: Headers[];
let failing: number;

beforeEach(async () => {
  lines = [];
  for (const method of ['log', 'error'] as const)
    vi.spyOn(console, method).mockImplementation(
      (line: string) => void lines.push(JSON.parse(line) as never),
    );
  edge = await open(0);
  key = await newKey();
  asked = [];
  failing = 0;
});
afterEach(() => vi.restoreAllMocks());

async function open(traceShare: number): Promise<AppHarness> {
  const opened = await createAppHarness({
    traceShare,
    origins: ['o1', 'o2'].map((id) => ({ id, url: `http://${id}.test` })),
    observer: createObserver({ points: noPoints, logSample: 1, pointSample: 1 }),
  });
  const { answer } = opened.origin;
  opened.origin.answer = (method, path, init, url) => {
    if (path.startsWith('/v1/') || path === '/tokenize') asked.push(new Headers(init.headers));
    if (path.startsWith('/v1/') && (failing -= 1) >= 0) throw new Error('connection refused');
    return answer(method, path, init, url);
  };
  return opened;
}

async function newKey(rights: object = {}): Promise<string> {
  const made = (await (await edge.request('/admin/keys', { body: rights })).json()) as { key: string };
  return made.key;
}

async function trust(): Promise<void> {
  key = await newKey({ trust_trace: true });
}

const ask = (headers: Record<string, string>, path = '/v1/chat/completions') =>
  edge.request(path, {
    ...{ key, headers },
    body:
      path === '/tokenize'
        ? { prompt: 'hi' }
        : { model: 'base', max_tokens: 1, messages: [{ role: 'user', content: 'hi' }] },
  });
const requestLine = () => lines.findLast(({ event }) => event === 'request');

describe('traceparent', () => {
  it.each(['/v1/chat/completions', '/tokenize'])(
    'goes from a client of %s to the origin and into the log, without the client’s decision',
    async (path) => {
      const client = { traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'vendor=secret' };
      expect((await ask(client, path)).status).toBe(200);
      const sent = parseTraceparent(asked[0]?.get('traceparent'), asked[0]?.get('tracestate'));
      expect(sent).toEqual({ traceId: TRACE, spanId: expect.not.stringMatching(SPAN), sampled: false });
      expect(requestLine()).toMatchObject({ trace_id: TRACE });
    },
  );

  it.each(['/v1/chat/completions', '/tokenize'])(
    'and tracestate decide and go on where the key of a request to %s trusts them',
    async (path) => {
      await trust();
      for (const flags of ['01', '00'])
        await ask({ traceparent: `00-${TRACE}-${SPAN}-${flags}`, tracestate: ' vendor=1 , b=2' }, path);
      await ask({ traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'Not valid' }, path);
      const sent = asked.map((headers) =>
        parseTraceparent(headers.get('traceparent'), headers.get('tracestate')),
      );
      const spanId = expect.any(String) as string;
      expect(sent).toEqual([
        { traceId: TRACE, spanId, sampled: true, state: 'vendor=1,b=2' },
        { traceId: TRACE, spanId, sampled: false, state: 'vendor=1,b=2' },
        { traceId: TRACE, spanId, sampled: true },
      ]);
    },
  );

  it('has a span of its own at each origin that is asked', async () => {
    failing = 1;
    expect((await ask({ traceparent: `00-${TRACE}-${SPAN}-00` })).status).toBe(200);
    const spans = asked.map((headers) => parseTraceparent(headers.get('traceparent'))?.spanId);
    expect(spans).toHaveLength(2);
    expect(new Set([...spans, SPAN]).size).toBe(3);
    for (const headers of asked) expect(headers.get('traceparent')).toMatch(/-00$/);
  });

  it.each([
    ['none', {}],
    ['a bad one', { traceparent: `00-${'0'.repeat(32)}-${SPAN}-01`, tracestate: 'vendor=1' }],
    ['one of a later version', { traceparent: `01-${TRACE}-${SPAN}-01` }],
  ])('begins a new trace when there is %s, whatever the key trusts', async (_, headers) => {
    await trust();
    const response = await ask(headers as Record<string, string>);
    expect(response.status).toBe(200);
    const sent = parseTraceparent(asked[0]?.get('traceparent'), asked[0]?.get('tracestate'));
    // The request's id leads to its trace.
    const traceId = response.headers.get('x-request-id')?.replaceAll('-', '');
    expect(sent).toEqual({ traceId, spanId: expect.any(String), sampled: false });
    expect(requestLine()).not.toHaveProperty('trace_id');
  });

  it('is all that crosses: no baggage, no state of others', async () => {
    await ask({
      traceparent: `00-${TRACE}-${SPAN}-01`,
      tracestate: 'vendor=secret',
      baggage: 'user=alice',
    });
    expect([...asked[0]!.keys()].sort()).toEqual([
      ...['content-type', 'traceparent', 'x-graft-ask', 'x-graft-signature', 'x-request-id'],
    ]);
  });
});

describe('the edge’s share of traces', () => {
  it('counts for all who do not trust a client, whatever ids and flags clients send', async () => {
    edge = await open(0.5);
    key = await newKey();
    for (let n = 0; n < 60; n += 1)
      await ask({
        traceparent: `00-${TRACE}-${SPAN}-${n % 2 === 0 ? '01' : '00'}`,
        'x-request-id': 'always-the-same',
      });
    const sampled = asked.map((headers) => parseTraceparent(headers.get('traceparent'))?.sampled);
    for (const parity of [0, 1]) {
      const share = sampled.filter((is, n) => is === true && n % 2 === parity).length;
      // The chance of fewer than 3 of 30 is 4e-7.
      expect(share).toBeGreaterThanOrEqual(3);
      expect(share).toBeLessThanOrEqual(27);
    }
  });

  it('of all of them yields to a client that is trusted, and logs the traces that begin here', async () => {
    edge = await open(1);
    key = await newKey({ trust_trace: true });
    await ask({ traceparent: `00-${TRACE}-${SPAN}-00` });
    expect(asked[0]?.get('traceparent')).toMatch(/-00$/);
    await ask({});
    expect(asked[1]?.get('traceparent')).toMatch(/-01$/);
    expect(requestLine()).toMatchObject({
      trace_id: parseTraceparent(asked[1]?.get('traceparent'))?.traceId,
    });
  });
});
