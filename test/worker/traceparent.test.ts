/** A client's trace through the edge to the origin, and into the log. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseTraceparent } from '../../protocol/origin-wire.ts';
import { createObserver } from '../../worker/http/request.ts';
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
  edge = await createAppHarness({
    origins: ['o1', 'o2'].map((id) => ({ id, url: `http://${id}.test` })),
    observer: createObserver({ dataset: undefined, logSample: 1, pointSample: 1 }),
  });
  key = ((await (await edge.request('/admin/keys', { body: {} })).json()) as { key: string }).key;
  asked = [];
  failing = 0;
  const { answer } = edge.origin;
  edge.origin.answer = (method, path, init, url) => {
    if (path.startsWith('/v1/') || path === '/tokenize') asked.push(new Headers(init.headers));
    if (path.startsWith('/v1/') && (failing -= 1) >= 0) throw new Error('connection refused');
    return answer(method, path, init, url);
  };
});
afterEach(() => vi.restoreAllMocks());

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
    'goes from a client of %s to the origin and into the log',
    async (path) => {
      expect((await ask({ traceparent: `00-${TRACE}-${SPAN}-01` }, path)).status).toBe(200);
      const sent = parseTraceparent(asked[0]?.get('traceparent'));
      expect(sent).toMatchObject({ traceId: TRACE, sampled: true });
      expect(sent?.spanId).not.toBe(SPAN);
      expect(requestLine()).toMatchObject({ trace_id: TRACE });
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
    ['a bad one', { traceparent: `00-${'0'.repeat(32)}-${SPAN}-01` }],
    ['one of a later version', { traceparent: `01-${TRACE}-${SPAN}-01` }],
  ])('is left out when there is %s', async (_, headers) => {
    expect((await ask(headers as Record<string, string>)).status).toBe(200);
    expect(asked[0]?.has('traceparent')).toBe(false);
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
