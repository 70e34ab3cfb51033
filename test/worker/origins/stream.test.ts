import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { STREAM_STALL_MS } from '../../../protocol/limits.ts';
import { CONNECTION_BYTES, STREAM_STALL_CHECK_MS, UNREAD_MS } from '../../../worker/origins/limits.ts';
import type { StreamEnd } from '../../../worker/metering/ports.ts';
import { passedStream } from './passed-stream.ts';

const text = new TextEncoder();
/** An event that fills a connection. */
const FULL = `data: ${'1'.repeat(CONNECTION_BYTES)}\n\n`;

/** A body with pieces and end controlled by the test. */
function scripted(pieces: readonly string[], end: 'close' | 'break' | 'hang') {
  let cancelled = false;
  const left = [...pieces];
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const piece = left.shift();
      if (piece !== undefined) return controller.enqueue(text.encode(piece));
      if (end === 'close') return controller.close();
      if (end === 'break') return controller.error(new Error('connection reset'));
      return new Promise<void>(() => undefined);
    },
    cancel: () => void (cancelled = true),
  });
  return { body, wasCancelled: () => cancelled };
}

function guard(pieces: readonly string[], end: 'close' | 'break' | 'hang', path = '/v1/chat/completions') {
  const gone = new AbortController();
  const ends: StreamEnd[] = [];
  let progress = 0;
  const { body, wasCancelled } = scripted(pieces, end);
  const { body: stream } = passedStream(body, {
    path,
    gone: gone.signal,
    onProgress: () => (progress += 1),
    onEnd: ({ how }) => ends.push(how),
  });
  return { stream, gone, ends, progress: () => progress, wasCancelled };
}

describe('passing a stream on', () => {
  it.each([
    [['data: 1\n\n', 'data: 2\n\ndata: 3\n\n', 'data: [DONE]\n\n']],
    [['da', 'ta: 1\n', '\nda', 'ta: [DONE]\n\n']],
  ])('passes %j on unchanged', async (pieces) => {
    const { stream, ends, progress } = guard(pieces, 'close');
    expect(await new Response(stream).text()).toBe(pieces.join(''));
    expect(ends).toEqual(['whole']);
    expect(progress()).toBe(pieces.length);
  });

  it.each<[string, string, string, StreamEnd]>([
    ['/v1/chat/completions', 'data: {"choices":[]}\n\n', 'data: [DONE]\n\n', 'whole'],
    [
      '/v1/chat/completions',
      'data: {"choices":[]}\n\n',
      'data: {"error":{"code":"internal_error"}}\n\n',
      'told',
    ],
    ['/v1/chat/completions', 'data: {"choices":[]}\n\n', 'data: {"choices":["[DONE]"]}\n\n', 'cut'],
    ['/v1/chat/completions', 'data: [DONE]\n\n', 'data: {"choices":[]}\n\n', 'cut'],
    ['/v1/completions', 'data: 1\n\n', 'data: unfinished', 'cut'],
    ['/v1/completions', '', '', 'cut'],
    ['/v1/responses', 'event: a\ndata: {}\n\n', 'event: response.completed\ndata: {}\n\n', 'whole'],
    ['/v1/responses', 'event: a\ndata: {}\n\n', 'event: response.incomplete\ndata: {}\n\n', 'whole'],
    ['/v1/responses', 'event: a\ndata: {}\n\n', 'event: response.failed\ndata: {}\n\n', 'told'],
    ['/v1/responses', 'event: response.completed\ndata: {}\n\n', 'event: a\ndata: {}\n\n', 'cut'],
    ['/v1/responses', `event: response.completed\ndata: "${'x'.repeat(5_000_000)}`, '"\n\n', 'whole'],
  ])('knows on %s by the last event whether the answer is whole', async (path, before, last, how) => {
    for (const pieces of [[before, last], [before + last], [...(before + last).slice(-60)]]) {
      const { stream, ends } = guard(before.length < 1_000 ? pieces : [before, last], 'close', path);
      const text = await new Response(stream).text();
      expect(ends).toEqual([how]);
      expect(text.includes('"origin_unavailable"')).toBe(how === 'cut');
    }
  });

  it('holds back no complete event', async () => {
    const { stream } = guard(['data: 1\n\ndata: 2'], 'hang');
    const { value } = await stream.getReader().read();
    expect(new TextDecoder().decode(value)).toBe('data: 1\n\n');
  });

  it('sends an error event when the origin breaks off, and drops the incomplete event', async () => {
    const { stream, ends } = guard(['data: {"a":1}\n\n', 'data: {"b'], 'break');
    const events = (await new Response(stream).text()).split('\n\n').filter(Boolean);
    expect(events).toHaveLength(2);
    expect(JSON.parse((events[1] ?? '').slice(6))).toMatchObject({
      error: { code: 'origin_unavailable', type: 'server_error' },
    });
    expect(ends).toEqual(['cut']);
  });

  it('sends it in the form of the Responses API', async () => {
    const { stream } = guard(
      [
        'event: response.created\ndata: {"type":"response.created","sequence_number":0}\n\n',
        'event: x\ndata: {"type":"x","sequence_number":7}\n\n',
        ': waiting\n\n',
      ],
      'break',
      '/v1/responses',
    );
    const last = (await new Response(stream).text()).split('\n\n').filter(Boolean).at(-1) ?? '';
    expect(last).toMatch(/^event: error\ndata: /);
    expect(JSON.parse(last.split('data: ')[1] ?? '')).toMatchObject({
      type: 'error',
      code: 'origin_unavailable',
      sequence_number: 8,
    });
  });

  describe('while time goes by', () => {
    beforeEach(() => void vi.useFakeTimers());
    afterEach(() => void vi.useRealTimers());

    it('sends an error event when the origin stalls', async () => {
      const silent = guard(['data: 1\n\n'], 'hang');
      const whole = new Response(silent.stream).text();
      await vi.advanceTimersByTimeAsync(STREAM_STALL_MS - 1);
      expect(silent.ends).toEqual([]);
      await vi.advanceTimersByTimeAsync(STREAM_STALL_CHECK_MS + 1);
      expect(silent.ends).toEqual(['stalled']);
      expect(silent.wasCancelled()).toBe(true);
      expect(JSON.parse((await whole).split('data: ')[2] ?? '')).toMatchObject({
        error: { code: 'origin_unavailable' },
      });
      expect(vi.getTimerCount()).toBe(0);
    });

    it.each([
      ['soon, when a connection would have taken what there is', 'data: 1\n\n', UNREAD_MS],
      ['later, when a connection may be full', FULL, STREAM_STALL_MS],
    ])('lets go of an origin that speaks when nobody reads, %s, and blames nobody', async (_, first, ms) => {
      const unread = guard([first, 'data: 2\n\n', 'data: 3\n\n'], 'hang');
      const reader = unread.stream.getReader();
      await reader.read();
      await vi.advanceTimersByTimeAsync(ms - 1);
      expect(unread.ends).toEqual([]);
      await vi.advanceTimersByTimeAsync(STREAM_STALL_CHECK_MS + 1);
      expect(unread.ends).toEqual(['gone']);
      expect(unread.wasCancelled()).toBe(true);
      await expect(reader.read()).rejects.toThrow('client disconnected');
      expect(vi.getTimerCount()).toBe(0);
    });

    it('waits for a client that reads slowly', async () => {
      const slow = guard([FULL, 'data: 2\n\n', 'data: [DONE]\n\n'], 'close');
      const reader = slow.stream.getReader();
      let text = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += new TextDecoder().decode(value);
        await vi.advanceTimersByTimeAsync(STREAM_STALL_MS - 1);
      }
      expect([text, slow.ends]).toEqual([`${FULL}data: 2\n\ndata: [DONE]\n\n`, ['whole']]);
      expect(vi.getTimerCount()).toBe(0);
    });
  });

  it('cancels the origin’s stream when the client disconnects, by either signal', async () => {
    const aborted = guard(['data: 1\n\n'], 'hang');
    await aborted.stream.getReader().read();
    aborted.gone.abort();
    await expect.poll(aborted.wasCancelled).toBe(true);
    expect(aborted.ends).toEqual(['gone']);
    const cancelled = guard(['data: 1\n\n'], 'hang');
    await cancelled.stream.cancel();
    await expect.poll(cancelled.wasCancelled).toBe(true);
    expect(cancelled.ends).toEqual(['gone']);
  });
});
