/** Processor time that a request's trace costs an origin and the edge: `npm run bench -- traces`. */
import { spansOf, type EndedGeneration } from '../gpu-origin/http/generation-spans.ts';
import { childOf, parseTraceparent, traceHeaders } from '../protocol/trace-context.ts';
import { createRequestTrace, type RequestTrace } from '../worker/http/request.ts';
import { edgeSpans } from '../worker/tracing/edge-spans.ts';
import { createSpanSink } from '../worker/tracing/send-spans.ts';
import { Tracer } from '../gpu-origin/tracing/tracer.ts';
import { readTracingConfig } from '../gpu-origin/tracing/tracing-config.ts';
import { describeMachine } from './machine.ts';

const PARENT = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' };
const ENDED: EndedGeneration = {
  ...{ operation: 'chat', arrivedAt: 0, endedAt: 10, status: 200, error: null, promptTokens: 50 },
  asked: {
    directive: {
      model: 'medicine/cardiology/dr-lee',
      chain: ['1', '2', '3'].map((digit) => ({ digest: digit.repeat(64), scale: 1 })),
      ...{ tenant: 't1', budgetMs: null, requestId: 'req_1' },
      adapter: { name: 'medicine/cardiology/dr-lee', version: 3 },
      experiment: { id: 'exp_0123456789abcdef', variant: 'treatment' },
    },
    request: { model: 'x', messages: [{ role: 'user', content: 'x' }], max_tokens: 20, stream: true },
  },
  rows: [
    {
      ...{ promptTokens: 50, completionTokens: 20, cachedTokens: 0, outcome: 'length', error: null },
      times: { addedAt: 1, loadingAt: 2, loadedAt: 3, startedAt: 4, firstTokenAt: 5, endedAt: 9 },
    },
  ],
};
const REQUESTS = 20_000;
const RUNS = 5;

/** @returns µs of processor time a request, ids, spans, JSON and batches included, without the network. */
async function measureOrigin(sampled: boolean): Promise<number> {
  const config = readTracingConfig({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://receiver' }, 'o1');
  if (config === null) throw new Error('there is an endpoint');
  let lost = 0;
  const tracer = new Tracer({
    config,
    onSpans: (outcome, spans) => (lost += outcome === 'sent' ? 0 : spans),
    onTrouble: (reason) => console.error(reason),
    fetch: async () => new Response('{}'),
  });
  const parent = { ...PARENT, sampled };
  const before = process.cpuUsage();
  for (let at = 0; at < REQUESTS; at += 1) {
    const span = tracer.begin(parent);
    if (span.sampled)
      tracer.record(
        spansOf(ENDED, {
          ...{ span, parent, requestId: 'req_1', route: '/v1/chat/completions', base: 'base' },
          ...{ latestNames: false, offsetMs: Date.now() },
        }),
      );
    if (at % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const { user, system } = process.cpuUsage(before);
  await tracer.close();
  if (lost > 0) throw new Error(`${lost} spans were lost`);
  return (user + system) / REQUESTS;
}

/**
 * At the edge: the client's headers, a span a stage of a request that two origins are asked for and one adapter is brought
 * to, JSON and batches, without the network. In Node: workerd runs the same V8, but its clock shows no processor time.
 */
async function measureEdge(sampled: boolean): Promise<number> {
  let lost = 0;
  const sink = createSpanSink({
    receiver: { url: 'http://receiver/v1/traces', headers: { 'api-key': 'k' }, service: 'graft-edge' },
    fetch: async () => new Response('{}', { headers: { 'content-length': '2' } }),
    now: Date.now,
    sleep: () => new Promise((resolve) => setImmediate(resolve)),
    onLost: (spans) => (lost += spans),
  });
  const waiting: Promise<unknown>[] = [];
  const keepAlive = (work: Promise<unknown>): void => void waiting.push(work);
  const { traceparent } = traceHeaders({ ...PARENT, sampled });
  const ids = Array.from({ length: 64 }, () => crypto.randomUUID());
  const before = process.cpuUsage();
  for (let at = 0; at < REQUESTS; at += 1) {
    const trace = createRequestTrace({
      ...{ now: Date.now, ownId: ids[at % ids.length] as string, share: 0 },
      client: parseTraceparent(traceparent, 'vendor=1'),
    });
    trace.trustClient();
    trace.note({
      tenant: 'acme',
      keyId: 'key_0123456789abcdef',
      name: 'medicine/cardiology/dr-lee',
      version: 3,
    });
    trace.note({
      chainId: '1'.repeat(64),
      origin: 'o2',
      experiment: 'exp_0123456789abcdef',
      variant: 'treatment',
    });
    for (const name of ['auth', 'quota', 'resolve', 'choose'] as const) trace.begin(name)();
    for (const status of [503, 409]) endAttempt(trace, status);
    const attributes = {
      'graft.origin': 'o2',
      'graft.adapter.digest': '2'.repeat(64),
      'graft.adapter.bytes': 9,
    };
    trace.begin('bring adapter')({ attributes });
    endAttempt(trace, 200);
    trace.begin('stream');
    trace.close();
    if (trace.span.sampled)
      sink.record(
        edgeSpans({
          ...{ trace, requestId: trace.ownId, method: 'POST', route: '/v1/chat/completions' },
          ...{ status: 200, at: Date.now(), keepAlive },
        }),
        keepAlive,
      );
    if (at % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(waiting);
  const { user, system } = process.cpuUsage(before);
  if (lost > 0) throw new Error(`${lost} spans were lost`);
  return (user + system) / REQUESTS;
}

/** With the header that goes to the origin. */
function endAttempt(trace: RequestTrace, status: number): void {
  const span = childOf(trace.span);
  const end = trace.begin('origin', span.spanId);
  traceHeaders(span);
  end({
    attributes: { 'graft.origin': 'o2', 'http.request.method': 'POST', 'http.response.status_code': status },
  });
}

/** What a request's spans may cost, µs. */
const MOST = { edge: 100, origin: 200 } as const;

export async function benchTraces(): Promise<void> {
  const report: Record<string, unknown> = {
    date: new Date().toISOString(),
    machine: await describeMachine(),
  };
  for (const [side, measure] of [
    ['edge', measureEdge],
    ['origin', measureOrigin],
  ] as const)
    for (const sampled of [true, false]) {
      const runs: number[] = [];
      for (let run = 0; run < RUNS; run += 1) runs.push(await measure(sampled));
      const micros = runs.toSorted((a, b) => a - b).map((value) => Math.round(value * 10) / 10);
      const name = `${side}, ${sampled ? 'recorded' : 'not recorded'}`;
      console.log(`${name}: ${micros.join(', ')} µs a request; at most ${MOST[side]}`);
      report[name] = micros;
    }
  console.log(JSON.stringify(report));
}
