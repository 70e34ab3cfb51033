import { describe, expect, it } from 'vitest';
import { MAX_JSON_DEPTH } from '../../../protocol/limits.ts';
import { readBody, readJson } from '../../../worker/http/request.ts';

/** A body of chunks; counts how many were taken. */
function chunked(count: number, bytes: number) {
  let taken = 0;
  let cancelled = false;
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        if (taken === count) return controller.close();
        taken += 1;
        controller.enqueue(new Uint8Array(bytes).fill(0x20));
      },
      cancel() {
        cancelled = true;
      },
    },
    { highWaterMark: 0 },
  );
  const request = new Request('http://edge.test/', { method: 'POST', body, duplex: 'half' } as RequestInit);
  return { request, taken: () => taken, cancelled: () => cancelled };
}

describe('readBody', () => {
  it('takes the limit and refuses one byte more', async () => {
    const whole = await readBody(chunked(10, 10).request, 100);
    expect(whole).toMatchObject({ ok: true });
    expect(whole.ok && whole.value.length).toBe(100);
    const over = await readBody(chunked(10, 10).request, 99);
    expect(over).toMatchObject({ ok: false, error: { code: 'request_too_large' } });
  });

  it('stops reading a body that does not end', async () => {
    const endless = chunked(Infinity, 10);
    expect((await readBody(endless.request, 100)).ok).toBe(false);
    expect(endless.taken()).toBeLessThan(60);
    expect(endless.cancelled()).toBe(true);
  });

  it('does not begin to read one that announces far too much', async () => {
    const { request, taken } = chunked(1, 10);
    request.headers.set('content-length', '401');
    expect((await readBody(request, 100)).ok).toBe(false);
    expect(taken()).toBe(0);
  });

  it('says that a body broke off', async () => {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new Uint8Array(1)),
      pull: (controller) => controller.error(new Error('connection lost')),
    });
    const request = new Request('http://edge.test/', { method: 'POST', body, duplex: 'half' } as RequestInit);
    expect(await readBody(request, 100)).toMatchObject({ ok: false, error: { code: 'invalid_request' } });
  });

  it('reads a part of a file in pieces of 64 KiB where the platform does that', async () => {
    const sent = Uint8Array.from({ length: 300_001 }, (_, i) => i % 251);
    let at = 0;
    // As workerd's: the room that it is given is gone, and comes back with what was read.
    const readAtLeast = async (least: number, room: Uint8Array<ArrayBuffer>) => {
      const value = new Uint8Array(structuredClone(room.buffer, { transfer: [room.buffer] }));
      const piece = sent.slice(at, (at += least));
      value.set(piece);
      return { done: piece.length === 0, value: value.subarray(0, piece.length) };
    };
    Object.assign(ReadableStreamBYOBReader.prototype, { readAtLeast });
    try {
      const body = new ReadableStream({ type: 'bytes' });
      const init = { method: 'POST', body, duplex: 'half' } as RequestInit;
      let pieces = 0;
      const pace = { stallMs: 60_000, deadlineMs: 60_000, now: () => 0, onChunk: () => void (pieces += 1) };
      const read = await readBody(new Request('http://edge.test/', init), 300_001, { pace });
      expect(read).toEqual({ ok: true, value: sent });
      expect(pieces).toBe(Math.ceil(300_001 / 65_536));
    } finally {
      Reflect.deleteProperty(ReadableStreamBYOBReader.prototype, 'readAtLeast');
    }
  });

  it('reads none as empty', async () => {
    const none = await readBody(new Request('http://edge.test/', { method: 'POST' }), 1);
    expect(none).toEqual({ ok: true, value: new Uint8Array(0) });
  });
});

describe('readJson', () => {
  const post = (body: string | Uint8Array<ArrayBuffer>) =>
    readJson(new Request('http://edge.test/', { method: 'POST', body }), 1_000);

  it('refuses what is nested too deep before it is parsed', async () => {
    const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
    expect(await post(nested(MAX_JSON_DEPTH))).toMatchObject({ ok: true });
    const refused = await post(nested(MAX_JSON_DEPTH + 1));
    expect(refused).toMatchObject({ ok: false, error: { code: 'invalid_request' } });
    expect(!refused.ok && refused.error.message).toContain(`more than ${MAX_JSON_DEPTH} levels deep`);
  });

  it('parses UTF-8 and refuses the rest', async () => {
    expect(await post('{"a":"ü"}')).toEqual({ ok: true, value: { a: 'ü' } });
    for (const bad of ['', '{', new Uint8Array([0x22, 0xff, 0x22])])
      expect(await post(bad)).toMatchObject({ ok: false, error: { code: 'invalid_request' } });
  });
});
