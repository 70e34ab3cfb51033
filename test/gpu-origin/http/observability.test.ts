/** What an origin reports: its load in every response, timing, and /metrics. */
import { afterEach, describe, expect, it } from 'vitest';
import { readLoad } from '../../../protocol/origin-wire.ts';
import { ASK_HEADER, POOL_HEADER, readPoolNotes, TURNED_HEADER } from '../../../protocol/pool-notes.ts';
import { envelope, signedFetch, startTestOrigin, type Origin } from './harness.ts';

const CHAT = '/v1/chat/completions';
const chat = { messages: [{ role: 'user', content: 'hello' }], max_tokens: 3, ignore_eos: true };

let origin: Origin;
afterEach(() => origin.stop());

const ask = (request: object, options: { headers?: Record<string, string> } = {}) =>
  signedFetch(origin, CHAT, { body: envelope({ model: 'base', ...chat, ...request }), ...options });
const loadOf = (response: Response) => readLoad(response.headers.get('x-graft-load'));

/** Starts an origin whose rows stay in their first step until they are released. */
async function startHeld(): Promise<() => void> {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  origin = await startTestOrigin({
    signed: true,
    context: { headersAfterMs: 10 },
    runner: { duringStep: ({ kind }) => (kind === 'decode' ? held : undefined) },
  });
  return release;
}

describe('x-graft-load', () => {
  it('counts running rows, and reports when the origin is shutting down', async () => {
    const release = await startHeld();
    expect(loadOf(await signedFetch(origin, '/base'))).toEqual({ rows: 0, slots: 4, draining: false });
    const running = await Promise.all([ask({ stream: true }), ask({ stream: true })]);
    expect(loadOf(await signedFetch(origin, '/base'))?.rows).toBe(2);
    origin.serving.drain();
    expect(loadOf(await signedFetch(origin, '/base'))).toEqual({ rows: 2, slots: 4, draining: true });
    release();
    for (const response of running) await response.text();
    expect(loadOf(await signedFetch(origin, '/base'))?.rows).toBe(0);
  });

  it('is sent to the edge only', async () => {
    origin = await startTestOrigin({ signed: true });
    for (const path of ['/base', '/healthz', '/readyz'])
      expect((await fetch(origin.url + path)).headers.get('x-graft-load')).toBeNull();
  });
});

describe('x-graft-pool', () => {
  it('tells an edge that asks, and turns requests away when crowded if they may be', async () => {
    const release = await startHeld();
    const [quiet, may] = [{ [ASK_HEADER]: 'own' }, { [ASK_HEADER]: 'pool turn' }];
    const running = await Promise.all(
      Array.from({ length: 5 }, () => ask({ stream: true }, { headers: may })),
    );
    expect(running.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
    const turned = await ask({ stream: true }, { headers: may });
    expect([turned.status, turned.headers.get(TURNED_HEADER)]).toEqual([429, 'true']);
    expect(readPoolNotes(turned.headers.get(POOL_HEADER))).toHaveLength(1);
    const waits = ask({ stream: true }, { headers: quiet });
    expect((await waits).headers.has(TURNED_HEADER)).toBe(false);
    release();
    for (const response of [...running, await waits]) await response.text();
    expect((await ask({})).headers.get(POOL_HEADER)).toBeNull();
  });
});

describe('server-timing', () => {
  it('reports the phases of an answer', async () => {
    origin = await startTestOrigin({ signed: true });
    const whole = await ask({});
    expect(whole.headers.get('server-timing')).toMatch(
      /^prompt;dur=\d+, queue;dur=\d+, first;dur=\d+, rest;dur=\d+$/,
    );
    await whole.text();
    const streamed = await ask({ stream: true });
    expect(streamed.headers.get('server-timing')).toMatch(/^prompt;dur=\d+, queue;dur=\d+, first;dur=\d+$/);
    await streamed.text();
  });

  it('reports the queue, also when headers are sent before a row is free', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    let clock = Date.now();
    const steps: string[] = [];
    origin = await startTestOrigin({
      signed: true,
      context: { headersAfterMs: 10, now: () => clock },
      runner: {
        slots: 1,
        duringStep: ({ kind }) => {
          if (steps.push(kind) === 1) clock += 40;
          return held;
        },
      },
    });
    const first = ask({ stream: true });
    // Its prefill is running.
    expect((await first).headers.get('server-timing')).toBe('prompt;dur=0, queue;dur=0, first;dur=40');
    const second = ask({ stream: true });
    await expect.poll(() => origin.engine.stats().waiting).toBe(1);
    expect((await second).headers.get('server-timing')).toBe('prompt;dur=0, queue;dur=0');
    const third = ask({});
    await expect.poll(() => origin.engine.stats().waiting).toBe(2);
    clock += 700;
    release();
    expect((await third).headers.get('server-timing')).toBe(
      'prompt;dur=0, queue;dur=700, first;dur=700, rest;dur=0',
    );
    for (const response of [await first, await second]) await response.text();
  });
});

describe('request ids', () => {
  it('are the edge’s, in header and envelope', async () => {
    origin = await startTestOrigin({ signed: true });
    const answered = await ask({}, { headers: { 'x-request-id': 'r1' } });
    expect(answered.headers.get('x-request-id')).toBe('r1');
    await answered.text();
    // hono's request-id lets these through at the edge.
    const odd = await signedFetch(origin, '/base', { headers: { 'x-request-id': 'a=b-c_d' } });
    expect(odd.headers.get('x-request-id')).toBe('a=b-c_d');
  });
});

describe('/metrics', () => {
  it('has what the alerts of docs/run/alerts.md need, and no tenant or adapter', async () => {
    origin = await startTestOrigin({ signed: true });
    await (await ask({})).text();
    const text = await (await fetch(`${origin.url}/metrics`)).text();
    for (const metric of [
      'graft_http_requests_total{route="/v1/chat/completions",status="200"} 1',
      'graft_rows_running 0',
      'graft_requests_waiting 0',
      'graft_slots 4',
      'graft_start_time_seconds ',
    ])
      expect(text).toContain(metric);
    expect(text).not.toMatch(/tenant|digest|alice/);
  });
});

describe("OpenTelemetry's histograms", () => {
  const metrics = async (): Promise<string> => (await signedFetch(origin, '/metrics')).text();
  const countOf = (text: string, name: string, labels = ''): number => {
    const common = 'gen_ai_operation_name="chat",gen_ai_provider_name="graft",gen_ai_request_model="fake"';
    const line = `gen_ai_server_${name}_count{${common}${labels}} `;
    const found = text.split('\n').find((one) => one.startsWith(line));
    return Number(found?.slice(line.length) ?? 0);
  };

  it('count each request once, and each answer by its tokens', async () => {
    origin = await startTestOrigin({ signed: true });
    await (await ask({ n: 2 })).text();
    await (await ask({ stream: true })).text();
    // One token has no time after the first.
    await (await ask({ max_tokens: 1 })).text();
    const text = await metrics();
    expect(countOf(text, 'request_duration_seconds')).toBe(3);
    expect(countOf(text, 'time_to_first_token_seconds')).toBe(3);
    expect(countOf(text, 'time_per_output_token_seconds')).toBe(3);
    expect(text).toMatch(/^gen_ai_server_request_duration_seconds_bucket\{le="81.92",.*\} 3$/m);
  });

  it('name why a request has no answer, and measure no tokens of it', async () => {
    origin = await startTestOrigin({ signed: true });
    expect((await ask({ temperature: 'hot' })).status).toBe(400);
    const missing = await signedFetch(origin, CHAT, {
      body: envelope({ model: 'base', ...chat }, { chain: [{ digest: 'a'.repeat(64), scale: 1 }] }),
    });
    expect(missing.status).toBe(409);
    const text = await metrics();
    expect(countOf(text, 'request_duration_seconds', ',error_type="invalid_request"')).toBe(1);
    expect(countOf(text, 'request_duration_seconds', ',error_type="adapter_missing"')).toBe(1);
    expect(countOf(text, 'request_duration_seconds')).toBe(0);
    expect(countOf(text, 'time_to_first_token_seconds')).toBe(0);
  });

  it('count a request as cancelled when its client leaves', async () => {
    const release = await startHeld();
    const gone = new AbortController();
    const answered = signedFetch(origin, CHAT, {
      body: envelope({ model: 'base', ...chat, stream: true }),
      signal: gone.signal,
    });
    await answered;
    gone.abort();
    // The row ends with its step, after the origin has noticed.
    await expect.poll(() => origin.serving.inFlight).toBe(0);
    release();
    const labels = ',error_type="cancelled"';
    await expect.poll(async () => countOf(await metrics(), 'request_duration_seconds', labels)).toBe(1);
  });

  it('have no label for tenants or adapters', async () => {
    origin = await startTestOrigin({ signed: true });
    const chain = [{ digest: origin.adapter, scale: 1 }];
    const response = await signedFetch(origin, CHAT, {
      body: envelope({ model: 'base', ...chat }, { chain, tenant: 'acme' }),
    });
    expect(response.status).toBe(200);
    await response.text();
    const lines = (await metrics()).split('\n').filter((line) => line.startsWith('gen_ai_'));
    expect(lines.length).toBeGreaterThan(40);
    for (const line of lines) expect(line).not.toMatch(new RegExp(`acme|alice|${origin.adapter}`));
  });
});
