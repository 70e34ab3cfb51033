import { describe, expect, it } from 'vitest';
import { USAGE_COMMENT } from '../../../protocol/origin-wire.ts';
import { listenIn } from '../../../worker/experiments/run-shadow.ts';

const EVENT = 'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n';
const NOTE = `${USAGE_COMMENT}prompt=1,completion=1,finish=stop\n\n`;
const WHOLE = JSON.stringify({ choices: [{ index: 0, text: 'hi' }] });

/** A stream that the test writes and ends. */
function source() {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  return { readable, writer, say: (text: string) => writer.write(new TextEncoder().encode(text)) };
}

function listen(
  body: string | ReadableStream<Uint8Array> | null,
  { stream = true, note = 'prompt=1' as string | null, status = 200, maxBytes = 1_000, noted = true } = {},
) {
  const ending = new AbortController();
  const response = new Response(body, {
    status,
    headers: { 'content-type': stream ? 'text/event-stream' : 'application/json' },
  });
  const last = noted ? { promptTokens: 1, completionTokens: 1, finish: 'stop' as const } : null;
  const ended = stream
    ? Promise.resolve({ how: 'whole' as const, note: last, events: 1, firstAt: null })
    : null;
  const heard = listenIn(
    { response, note, ended },
    { signal: ending.signal, maxBytes, keepAlive: () => undefined },
  );
  return { ...heard, sent: () => new Response(heard.body).text(), end: () => ending.abort() };
}

describe('listening to an answer', () => {
  it('changes nothing of it, and tells what it said when it has ended', async () => {
    const stream = listen(EVENT + EVENT + NOTE);
    expect(await stream.sent()).toBe(EVENT + EVENT + NOTE);
    expect(await stream.texts).toEqual(['hihi']);
    const whole = listen(WHOLE, { stream: false });
    expect(await whole.sent()).toBe(WHOLE);
    expect(await whole.texts).toEqual(['hi']);
  });

  it('holds nothing back', async () => {
    const { readable, writer, say } = source();
    const { body, texts } = listen(readable);
    const reader = body!.getReader();
    void say(EVENT);
    expect(new TextDecoder().decode((await reader.read()).value)).toBe(EVENT);
    void say(NOTE);
    await reader.read();
    void writer.close();
    expect((await reader.read()).done).toBe(true);
    expect(await texts).toEqual(['hi']);
  });

  it('takes an origin that notes nothing at its word, and one that does not', async () => {
    const { sent, texts } = listen(EVENT, { note: null, noted: false });
    await sent();
    expect(await texts).toEqual(['hi']);
    const cut = listen(EVENT, { noted: false });
    await cut.sent();
    expect(await cut.texts).toBeNull();
  });

  it('hears nothing of what is refused, too long, or no answer', async () => {
    for (const { sent, texts } of [
      listen(EVENT + NOTE, { maxBytes: EVENT.length }),
      listen('{"error":{}}', { stream: false, status: 503 }),
      listen('{"ok":true}', { stream: false }),
      listen(null, { stream: false }),
    ]) {
      await sent();
      expect(await texts).toBeNull();
    }
  });

  it('hears nothing of what breaks off, or of what its client leaves, which the origin is told', async () => {
    const broken = source();
    const { sent, texts } = listen(broken.readable);
    const reading = sent();
    await broken.say(EVENT);
    void broken.writer.abort(new Error('cut'));
    await expect(reading).rejects.toThrow('cut');
    expect(await texts).toBeNull();

    const left = source();
    const other = listen(left.readable);
    await other.body!.cancel(new Error('gone'));
    expect(await other.texts).toBeNull();
    await expect(left.writer.closed).rejects.toThrow('gone');
  });

  it('ends when it is told to, and the answer goes on', async () => {
    const { readable, writer, say } = source();
    const { sent, texts, end } = listen(readable);
    const reading = sent();
    await say(EVENT);
    end();
    expect(await texts).toBeNull();
    await say(NOTE);
    await writer.close();
    expect(await reading).toBe(EVENT + NOTE);
  });
});
