/** Processor time that a request's trace costs an origin: `npm run bench -- traces`. */
import { spansOf, type EndedGeneration } from '../gpu-origin/http/generation-spans.ts';
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
const REQUESTS = 50_000;
const RUNS = 5;

/** @returns µs of processor time a request, ids, spans, JSON and batches included, without the network. */
async function measure(sampled: boolean): Promise<number> {
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

export async function benchTraces(): Promise<void> {
  const report: Record<string, unknown> = {
    date: new Date().toISOString(),
    machine: await describeMachine(),
  };
  for (const [name, sampled] of [
    ['recorded', true],
    ['not recorded', false],
  ] as const) {
    const runs: number[] = [];
    for (let run = 0; run < RUNS; run += 1) runs.push(await measure(sampled));
    const micros = runs.toSorted((a, b) => a - b).map((value) => Math.round(value * 10) / 10);
    console.log(`${name}: ${micros.join(', ')} µs a request`);
    report[name] = micros;
  }
  console.log(JSON.stringify(report));
}
