/** One trace from a client through the edge in workerd to an origin's process, at a receiver of OTLP. */
import { readFile } from 'node:fs/promises';
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

/** Spans of a trace, once both servers' have arrived. */
async function traced(traceId: string): Promise<ReceivedSpan[]> {
  const { received } = receiver;
  const found = () => received.spans.filter((span) => span.traceId === traceId);
  await expect.poll(() => found().filter(({ kind }) => kind === 2).length).toBe(2);
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
  });
});
