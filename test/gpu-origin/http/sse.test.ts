import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { sseResponse, type SseWriter } from '../../../gpu-origin/http/sse.ts';

describe('sseResponse', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  function open() {
    const seen = { gone: 0, ended: 0 };
    let writer: SseWriter | undefined;
    let finish = (): void => undefined;
    let fail = (_error: Error): void => undefined;
    const response = sseResponse({
      produce: (w) => {
        writer = w;
        return new Promise((resolve, reject) => {
          finish = resolve;
          fail = reject;
        });
      },
      onGone: () => (seen.gone += 1),
      onEnd: () => (seen.ended += 1),
      heartbeatMs: 15_000,
      heartbeat: (w) => w.send('still here'),
      headers: {},
    });
    return { response, seen, writer: writer!, finish: () => finish(), fail: (error: Error) => fail(error) };
  }

  it('writes events, a sign of life while it is quiet, and ends', async () => {
    const { response, seen, writer, finish } = open();
    writer.send({ text: 'data: [DONE]\n\n' });
    // The first interval was not quiet from its beginning; the next three were.
    await vi.advanceTimersByTimeAsync(61_000);
    for (let i = 0; i < 60; i += 1) {
      writer.comment(': busy');
      await vi.advanceTimersByTimeAsync(1_000);
    }
    writer.done();
    finish();
    await vi.advanceTimersByTimeAsync(60_000);
    expect((await response.text()).replaceAll(': busy\n\n', '')).toBe(
      `data: {"text":"data: [DONE]\\n\\n"}\n\n${'data: "still here"\n\n'.repeat(3)}data: [DONE]\n\n`,
    );
    expect(seen).toEqual({ gone: 0, ended: 1 });
  });

  it('cuts off a reader that lets more than 256 KB pile up', async () => {
    const { response, seen, writer, finish } = open();
    const kilobyte = 'x'.repeat(1_000);
    for (let i = 0; i < 250; i += 1) writer.send(kilobyte);
    expect(seen).toEqual({ gone: 0, ended: 0 });
    for (let i = 0; i < 100; i += 1) writer.send(kilobyte);
    expect(seen).toEqual({ gone: 1, ended: 1 });
    finish();
    await expect(response.text()).rejects.toThrow('too slow');
  });

  it('says so when the reader goes away, and when the producer fails', async () => {
    const first = open();
    await first.response.body!.cancel();
    first.writer.send(1);
    first.finish();
    expect(first.seen).toEqual({ gone: 1, ended: 1 });
    const second = open();
    second.fail(new Error('a bug'));
    await expect(second.response.text()).rejects.toThrow('a bug');
    expect(second.seen).toEqual({ gone: 0, ended: 1 });
  });
});
