/** One trace from a client through the edge in workerd to an origin's process, at a receiver of OTLP. */
import { readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TINY_ADAPTERS, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { startReceiver, type ReceivedSpan } from '../gpu-origin/http/otlp-receiver.ts';
import { bearer, CHAT, chatBody } from './canary-stack.ts';
import { send, startTinyStack, type TinyStack } from './tiny-stack.ts';

const [TRACE, SPAN] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7'];

let receiver: Awaited<ReturnType<typeof startReceiver>>;
let stack: TinyStack;
let key: string;
beforeAll(async () => {
  receiver = await startReceiver();
  stack = await startTinyStack('', [], undefined, {
    OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
    OTEL_EXPORTER_OTLP_HEADERS: 'api-key=canary%20key',
    OTEL_BSP_SCHEDULE_DELAY: '100',
    OTEL_RESOURCE_ATTRIBUTES: 'zone=here',
  });
  const folder = path.join(stack.folder, 'attention');
  writeTinyAdapter(folder, TINY_ADAPTERS['attention'] as TinyAdapter);
  const published = await stack.graft('publish', folder, '--name', 'alice/notes');
  expect(published.code, published.stderr).toBe(0);
  const made = await send(stack.local.url, '/admin/keys', {
    body: JSON.stringify({ tenant: 'acme', scopes: ['alice/**'], limits: { requests_per_minute: 99 } }),
    headers: bearer(stack.local.adminKey),
  });
  ({ key } = JSON.parse(made.text) as { key: string });
});
afterAll(async () => {
  await stack?.remove();
  await receiver.stop();
});

const ask = (fields: Record<string, unknown>, traceparent: string, as = key) =>
  send(stack.local.url, CHAT, {
    body: chatBody({ messages: [{ role: 'user', content: 'a secret question' }], ...fields }),
    headers: { ...bearer(as), 'content-type': 'application/json', traceparent },
  });

/** Spans of a trace, once those of both servers have arrived. @param servers spans of kind server in all. */
async function traced(traceId: string, servers = 2): Promise<ReceivedSpan[]> {
  const { received } = receiver;
  const found = () => received.spans.filter((span) => span.traceId === traceId);
  await expect.poll(() => found().filter(({ kind }) => kind === 2).length).toBe(servers);
  expect(received.problems).toEqual([]);
  return found();
}

describe('a request', () => {
  it('is one trace from its client to the engine', async () => {
    const answer = await ask({ stream: true }, `00-${TRACE}-${SPAN}-00`);
    expect(answer.status, answer.text).toBe(200);
    const spans = await traced(TRACE);
    const by = (name: string) => {
      const found = spans.filter((span) => span.name === name);
      expect(found.length, name).toBeGreaterThan(0);
      return found.at(-1) as ReceivedSpan;
    };
    const edge = by(`POST ${CHAT}`);
    const origin = by('chat alice/notes');
    expect(edge).toMatchObject({ parentSpanId: SPAN, service: 'graft-edge' });
    for (const stage of ['auth', 'resolve', 'quota', 'choose', 'origin', 'stream'])
      expect(by(stage)).toMatchObject({ parentSpanId: edge.spanId, service: 'graft-edge' });
    expect(origin).toMatchObject({ parentSpanId: by('origin').spanId, service: 'graft-origin' });
    for (const stage of ['queue', 'prefill', 'decode'])
      expect(by(stage)).toMatchObject({ parentSpanId: origin.spanId, service: 'graft-origin' });
    const adapter = {
      'graft.adapter.name': 'alice/notes',
      'graft.adapter.version': '1',
      'graft.adapter.tenant': 'acme',
    };
    expect(edge.attributes).toMatchObject(adapter);
    expect(origin.attributes).toMatchObject({ ...adapter, 'gen_ai.usage.output_tokens': '12' });
    // Only the origin counts tokens.
    for (const span of spans.filter(({ service }) => service === 'graft-edge'))
      expect(Object.keys(span.attributes).filter((name) => name.includes('token'))).toEqual([]);
  });

  it('sends no word of it, and the receiver’s key to the receiver alone', async () => {
    const answer = await ask({}, `00-${TRACE.replace('4', '6')}-${SPAN}-01`);
    await traced(TRACE.replace('4', '6'));
    const { content } = (JSON.parse(answer.text) as { choices: { message: { content: string } }[] })
      .choices[0]!.message;
    const sent = receiver.received.bodies.join();
    for (const word of ['secret', 'canary', key, content]) expect(sent).not.toContain(word);
    for (const headers of receiver.received.headers)
      expect(headers).toMatchObject({ 'api-key': 'canary key' });
    expect(await readFile(path.join(stack.folder, '.graft/dev.log'), 'utf8')).not.toContain('canary');
  });

  it('is answered although the receiver fails', async () => {
    receiver.received.statuses.push(...Array.from({ length: 8 }, () => 400));
    expect((await ask({}, `00-${TRACE.replace('4', '7')}-${SPAN}-01`)).status).toBe(200);
    await expect.poll(() => receiver.received.statuses.length).toBeLessThan(7);
    receiver.received.statuses.length = 0;
  });
});

describe('a request in an experiment', () => {
  const server = (spans: readonly ReceivedSpan[], service: string) =>
    spans.find((span) => span.kind === 2 && span.service === service)?.attributes ?? {};
  const WHOSE = ['tenant', 'experiment', 'variant', 'name', 'version', 'chain_id'] as const;
  const whose = (attributes: Record<string, unknown>) =>
    Object.fromEntries(WHOSE.map((field) => [field, attributes[`graft.adapter.${field}`]]));

  it('names its experiment, variant, tenant and chain alike at the edge and at the origin', async () => {
    const folder = path.join(stack.folder, 'second');
    writeTinyAdapter(folder, { ...(TINY_ADAPTERS['attention'] as TinyAdapter), seed: 77 });
    for (const args of [
      ['publish', folder, '--name', 'alice/notes', '--stage'],
      ['experiment', 'create', 'alice/notes', '@2', '--start'],
    ]) {
      const done = await stack.graft(...args);
      expect(done.code, done.stderr).toBe(0);
    }
    // The edge reads a name's experiment anew within seconds.
    const assigned = async () => (await ask({ user: 'u0' }, '')).headers['x-graft-experiment'];
    await expect.poll(assigned, { interval: 500 }).toMatch(/^exp_/);

    const seen = new Map<string, Record<string, unknown>>();
    for (let n = 0; seen.size < 2 && n < 40; n += 1) {
      const traceId = `${TRACE.slice(0, 30)}${n + 10}`;
      const answer = await ask({ user: `u${n}` }, `00-${traceId}-${SPAN}-01`);
      expect(answer.status, answer.text).toBe(200);
      const spans = await traced(traceId);
      const [edge, origin] = ['graft-edge', 'graft-origin'].map((service) => whose(server(spans, service)));
      expect(origin).toEqual(edge);
      expect(edge).toEqual({
        tenant: 'acme',
        experiment: answer.headers['x-graft-experiment'],
        variant: answer.headers['x-graft-variant'],
        name: 'alice/notes',
        version: answer.headers['x-graft-variant'] === 'control' ? '1' : '2',
        chain_id: expect.stringMatching(/^[0-9a-f]{64}$/),
      });
      seen.set(String(edge?.['variant']), edge ?? {});
    }
    expect([...seen.keys()].sort()).toEqual(['control', 'treatment']);
    expect(seen.get('control')?.['chain_id']).not.toBe(seen.get('treatment')?.['chain_id']);
  });

  it('has none when it names a version', async () => {
    const traceId = TRACE.replace('4', '8');
    expect((await ask({ model: 'alice/notes@2', user: 'u0' }, `00-${traceId}-${SPAN}-01`)).status).toBe(200);
    const spans = await traced(traceId);
    for (const service of ['graft-edge', 'graft-origin'])
      expect(whose(server(spans, service))).toMatchObject({
        tenant: 'acme',
        version: '2',
        experiment: undefined,
        variant: undefined,
      });
  });
});

describe('an adapter that the origin lacks', () => {
  it('has a span of its own, between the attempt that is refused and the one that is answered', async () => {
    stack.dev.child.kill('SIGINT');
    expect((await stack.dev.finished).code).toBe(0);
    const cache = path.join(stack.folder, 'cache');
    const lost = (await readdir(cache)).filter((name) => name.startsWith('adapters-'));
    expect(lost).toHaveLength(1);
    for (const name of lost) await rm(path.join(cache, name), { recursive: true });
    await stack.restart();

    const traceId = TRACE.replace('4', '9');
    const answer = await ask({ model: 'alice/notes@1' }, `00-${traceId}-${SPAN}-01`);
    expect(answer.status, answer.text).toBe(200);
    const spans = await traced(traceId, 3);
    const edge = spans.find(({ kind, service }) => kind === 2 && service === 'graft-edge');
    const bring = spans.filter(({ name }) => name === 'bring adapter');
    expect(bring).toMatchObject([
      {
        service: 'graft-edge',
        kind: 3,
        parentSpanId: edge?.spanId,
        attributes: {
          'graft.origin': expect.any(String),
          'graft.adapter.digest': expect.stringMatching(/^[0-9a-f]{64}$/),
          'graft.adapter.bytes': expect.stringMatching(/^[1-9]\d+$/),
        },
      },
    ]);
    const [refused, answered] = spans
      .filter(({ name }) => name === 'origin')
      .sort((a, b) => (a.startTimeUnixNano < b.startTimeUnixNano ? -1 : 1));
    expect(refused?.attributes).toMatchObject({ 'http.response.status_code': '409' });
    expect(answered?.attributes).toMatchObject({ 'http.response.status_code': '200' });
    const at = [
      ...[edge?.startTimeUnixNano, refused?.endTimeUnixNano],
      ...[bring[0]?.startTimeUnixNano, bring[0]?.endTimeUnixNano],
      ...[answered?.startTimeUnixNano, edge?.endTimeUnixNano],
    ].map((time) => BigInt(time ?? 0));
    expect(at).toEqual(at.toSorted((a, b) => (a < b ? -1 : Number(a > b))));
    expect(at[3]).toBeGreaterThan(at[2] as bigint);
    // The origin's request that is answered loads the same file, below the attempt that asked for it.
    const origin = spans.find(({ parentSpanId }) => parentSpanId === answered?.spanId);
    expect(origin).toMatchObject({
      service: 'graft-origin',
      attributes: { 'graft.adapter.digest': bring[0]?.attributes['graft.adapter.digest'] },
    });
  });
});
