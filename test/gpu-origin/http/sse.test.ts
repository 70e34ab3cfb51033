import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { sseResponse, type SseWriter } from '../../../gpu-origin/http/completions.ts';

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
      tooSlow: (w) => w.send('too slow'),
      headers: {},
    });
    return { response, seen, writer: writer!, finish: () => finish(), fail: (error: Error) => fail(error) };
  }

  it('writes events, heartbeats while it is quiet, and ends', async () => {
    const { response, seen, writer, finish } = open();
    writer.send({ text: 'data: [DONE]\n\n' });
    await vi.advanceTimersByTimeAsync(61_000);
    for (let i = 0; i < 60; i += 1) {
      writer.comment(': busy');
      await vi.advanceTimersByTimeAsync(1_000);
    }
    writer.done();
    finish();
    await vi.advanceTimersByTimeAsync(60_000);
    expect((await response.text()).replaceAll(': busy\n\n', '')).toBe(
      `data: {"text":"data: [DONE]\\n\\n"}\n\n${'data: "still here"\n\n'.repeat(4)}data: [DONE]\n\n`,
    );
    expect(seen).toEqual({ gone: 0, ended: 1 });
  });

  it('is never silent for longer than a heartbeat, after any event', async () => {
    const { response, writer, finish } = open();
    const reader = response.body!.getReader();
    const at: number[] = [];
    const read = async (): Promise<void> => {
      for (;;) {
        const { done } = await reader.read();
        if (done) return;
        at.push(Date.now());
      }
    };
    const from = Date.now();
    const reading = read();
    for (const pause of [14_999, 7_000, 14_000, 46_000]) {
      writer.send('token');
      await vi.advanceTimersByTimeAsync(pause);
    }
    finish();
    await reading;
    const times = [0, 14_999, 21_999, 35_999, 50_999, 65_999, 80_999];
    expect(at.map((time) => time - from)).toEqual(times);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('gives up a reader that lets more than 256 KB pile up, and tells it so', async () => {
    const { response, seen, writer, finish } = open();
    const kilobyte = 'x'.repeat(1_000);
    for (let i = 0; i < 250; i += 1) writer.send(kilobyte);
    expect(seen).toEqual({ gone: 0, ended: 0 });
    for (let i = 0; i < 100; i += 1) writer.send(kilobyte);
    expect(seen).toEqual({ gone: 1, ended: 1 });
    finish();
    const events = (await response.text()).split('\n\n');
    expect(events.slice(-2)).toEqual(['data: "too slow"', '']);
    expect(events.length).toBeLessThan(300);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('tolerates a few large events that nobody could have read yet', async () => {
    const { response, seen, writer, finish } = open();
    const large = 'x'.repeat(1_000_000);
    for (let i = 0; i < 7; i += 1) writer.send(large);
    writer.done();
    finish();
    expect((await response.text()).endsWith('data: [DONE]\n\n')).toBe(true);
    expect(seen).toEqual({ gone: 0, ended: 1 });
  });

  it('reports when the reader leaves, and when the producer fails', async () => {
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
