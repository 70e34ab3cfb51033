import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { USAGE_COMMENT } from '../../../protocol/origin-wire.ts';
import { createAskQuota, createCompletionMeter } from '../../../worker/metering/meter.ts';
import type { KeyLimits } from '../../../protocol/admin-api/keys.ts';
import type { CompletionEnding, MeteredAnswer, UsageEvent } from '../../../worker/metering/ports.ts';
import { STREAM_STALL_MS } from '../../../protocol/limits.ts';
import { STREAM_STALL_CHECK_MS, UNREAD_MS } from '../../../worker/origins/limits.ts';
import { passedStream } from '../origins/passed-stream.ts';
import { createFakeQuotas, type FakeQuotas } from '../../fakes/fake-metering.ts';

const RENEW_MS = 15_000;
const SERVED = { name: 'notes', version: 1, base: 'tiny' };

let quotas: FakeQuotas;
let events: UsageEvent[];
let work: Promise<unknown>[];
let gone: AbortController;
let ids = 0;

const measure = (
  run: (signal: AbortSignal) => Promise<MeteredAnswer>,
  limits?: KeyLimits,
  onEnd: (ending: CompletionEnding) => void = () => undefined,
) => {
  const now = Date.now;
  const askQuota = createAskQuota({
    ...{ quotas, now, retryAfterMs: 1, memoryMs: 1_000, maxEntries: 10 },
    newId: () => `lease-${(ids += 1)}`,
    alerts: { tell: async () => undefined },
    sleep: async () => undefined,
  });
  const usage = { recordUsage: (event: UsageEvent) => void events.push(event) };
  return createCompletionMeter({
    ...{ askQuota, usage, now, renewMs: RENEW_MS },
  }).measure({
    caller: { keyId: 'key_1', tenant: 'default', limits },
    requestId: 'r',
    gone: gone.signal,
    keepAlive: (promise) => void work.push(promise.catch(() => undefined)),
    run,
    onEnd,
  });
};
/** A stream controlled by the test. */
function stream() {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  const headers = { 'content-type': 'text/event-stream' };
  return {
    async answer(): Promise<MeteredAnswer> {
      const { body, ended } = passedStream(readable, {
        gone: gone.signal,
        keepAlive: (promise) => void work.push(promise),
      });
      return { response: new Response(body, { headers }), note: 'prompt=10', ended, served: SERVED };
    },
    send: (text: string) => writer.write(new TextEncoder().encode(text)),
    close: () => writer.close(),
    cut: () => writer.abort(new Error('reset')),
  };
}
const calls = (what: string) => quotas.calls.filter((call) => call.startsWith(what)).length;

beforeEach(() => {
  quotas = createFakeQuotas();
  events = [];
  work = [];
  gone = new AbortController();
});
afterEach(() => {
  gone.abort();
  vi.useRealTimers();
});

describe('measuring a completion', () => {
  it('counts a whole answer, and settles its lease once', async () => {
    const answer = { response: Response.json({}), note: 'prompt=10,completion=5', served: SERVED };
    const response = await measure(async () => answer, { concurrent: 1 });
    expect(response.status).toBe(200);
    expect(events).toMatchObject([{ ...SERVED, promptTokens: 10, completionTokens: 5, status: 200 }]);
    await Promise.all(work);
    expect([calls('admit'), calls('settle')]).toEqual([1, 1]);
  });

  it('counts a stream by its usage note, and removes the note', async () => {
    const { answer, send, close } = stream();
    const response = await measure(answer, { concurrent: 1 });
    const text = response.text();
    await send('data: {}\n\n');
    await send(`${USAGE_COMMENT}prompt=10,completion=7\n\ndata: [DONE]\n\n`);
    await close();
    expect(await text).toBe('data: {}\n\ndata: [DONE]\n\n');
    await Promise.all(work);
    expect(events).toMatchObject([{ promptTokens: 10, completionTokens: 7, status: 200 }]);
    expect(calls('settle')).toBe(1);
  });

  it('counts what was sent when the client disconnects, and then frees its slot', async () => {
    const { answer, send } = stream();
    const response = await measure(answer, { concurrent: 1 });
    const reader = response.body?.getReader();
    await Promise.all([send('data: {}\n\n'), reader?.read()]);
    gone.abort();
    await vi.waitUntil(() => events.length > 0);
    expect(events).toMatchObject([{ promptTokens: 10, completionTokens: 1, status: 499 }]);
    await vi.waitUntil(() => calls('settle') === 1);
  });

  it('reports a stream that broke off', async () => {
    const { answer, send, cut } = stream();
    const response = await measure(answer, { concurrent: 1 });
    const reader = response.body?.getReader();
    await Promise.all([send('data: {}\n\n'), reader?.read()]);
    await Promise.all([cut(), reader?.read().catch(() => undefined)]);
    await Promise.all(work);
    expect(events).toMatchObject([{ completionTokens: 1, status: 502 }]);
    expect(calls('settle')).toBe(1);
  });

  it('renews leases while it works and while the stream progresses', async () => {
    vi.useFakeTimers();
    const { answer, send, close } = stream();
    let begin: () => void = () => undefined;
    const waiting = new Promise<void>((resolve) => (begin = resolve));
    const pending = measure(() => waiting.then(answer), { concurrent: 1 });
    await vi.advanceTimersByTimeAsync(3 * RENEW_MS);
    expect(calls('renew')).toBe(3);
    begin();
    const reader = (await pending).body?.getReader();
    for (let i = 0; i < 3; i += 1) {
      await Promise.all([send(': ping\n\n'), reader?.read()]);
      await vi.advanceTimersByTimeAsync(RENEW_MS);
    }
    expect(calls('renew')).toBe(6);
    const end = reader?.read();
    await close();
    await end;
    await vi.advanceTimersByTimeAsync(0);
    expect(calls('settle')).toBe(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it.each([[{ concurrent: 1 }], [undefined]])(
    'ends and counts an unread stream whose client’s disconnect nobody noticed; limits %j',
    async (limits) => {
      vi.useFakeTimers();
      const { answer, send } = stream();
      const reader = (await measure(answer, limits)).body?.getReader();
      await Promise.all([send('data: {}\n\n'), reader?.read()]);
      void send('event: x\n\n').catch(() => undefined);
      await vi.advanceTimersByTimeAsync(UNREAD_MS + STREAM_STALL_CHECK_MS);
      expect(events).toMatchObject([{ promptTokens: 10, completionTokens: 1, status: 499 }]);
      // The origin is cancelled, so that it frees the row.
      await expect(send('data: {}\n\n')).rejects.toThrow();
      expect(calls('settle')).toBe(limits === undefined ? 0 : 1);
    },
  );

  it.each([
    [`${USAGE_COMMENT}prompt=10,completion=7\n\ndata: [DONE]\n\n`, 'whole', 200],
    ['data: [DONE]\n\n', 'whole without a note', 502],
    ['data: {"error":{}}\n\n', 'told', 502],
    ['data: {}\n\n', 'cut', 502],
    ['data: {}\n\n', 'stalled', 502],
    [`${USAGE_COMMENT}prompt=10,completion=7,finish=left\n\ndata: {"error":{}}\n\n`, 'told', 499],
  ] as const)('counts a stream that ends with %j and is %s as %i', async (last, how, status) => {
    if (how === 'stalled') vi.useFakeTimers();
    const { answer, send, close } = stream();
    const endings: CompletionEnding[] = [];
    const text = (await measure(answer, undefined, (ending) => endings.push(ending))).text();
    await send(last);
    if (how === 'stalled') await vi.advanceTimersByTimeAsync(STREAM_STALL_MS + STREAM_STALL_CHECK_MS);
    else await close();
    await text;
    await Promise.all(work);
    expect(events).toMatchObject([{ promptTokens: 10, status }]);
    expect(endings).toMatchObject([{ status, stalled: how === 'stalled' }]);
  });

  it('records the time of the first token, not of the role, the request or a heartbeat', async () => {
    vi.useFakeTimers();
    const endings: CompletionEnding[] = [];
    const { answer, send, close } = stream();
    const reader = (await measure(answer, undefined, (ending) => endings.push(ending))).body?.getReader();
    const choice = (delta: object) =>
      `data: {"choices":[{"index":0,"delta":${JSON.stringify(delta)},"logprobs":null,"finish_reason":null}]}\n\n`;
    for (const delta of [
      { role: 'assistant', content: '' },
      { content: '' },
      { content: 'a' },
      { content: 'b' },
    ]) {
      await Promise.all([send(choice(delta)), reader?.read()]);
      await vi.advanceTimersByTimeAsync(1_000);
    }
    const last = reader?.read();
    await close();
    await last;
    await Promise.all(work);
    expect(Date.now() - (endings[0]?.firstAt ?? 0)).toBe(2_000);
  });

  it('aborts the work if the quota refuses', async () => {
    await measure(stream().answer, { concurrent: 1 });
    let signal: AbortSignal | undefined;
    const refused = await measure(
      (given) => {
        signal = given;
        return new Promise((_, reject) => given.addEventListener('abort', () => reject(new Error('off'))));
      },
      { concurrent: 1 },
    );
    expect(refused.status).toBe(429);
    expect(signal?.aborted).toBe(true);
    expect(events).toEqual([]);
  });

  it('settles if the work throws', async () => {
    const failing = measure(() => Promise.reject(new Error('bug')), { concurrent: 1 });
    await expect(failing).rejects.toThrow('bug');
    await Promise.all(work);
    expect(calls('settle')).toBe(1);
    expect(events).toEqual([]);
  });
});
