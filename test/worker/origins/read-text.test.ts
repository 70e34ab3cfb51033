import { describe, expect, it } from 'vitest';
import { readAnswer, readOriginText } from '../../../worker/origins/connection.ts';

function body(...chunks: Uint8Array[]) {
  let cancelled = false;
  const stream = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const chunk = chunks.shift();
        if (chunk === undefined) controller.close();
        else controller.enqueue(chunk);
      },
      cancel: () => void (cancelled = true),
    },
    { highWaterMark: 0 },
  );
  return { response: new Response(stream), left: () => chunks.length, cancelled: () => cancelled };
}

it('joins characters that span chunks', async () => {
  const bytes = new TextEncoder().encode('{"a":"日本語"}');
  const { response } = body(...Array.from(bytes, (byte) => Uint8Array.of(byte)));
  expect(await readOriginText(response)).toBe('{"a":"日本語"}');
  expect(await readOriginText(new Response(null))).toBe('');
});

it('accepts the limit, and stops one byte after it', async () => {
  expect(await readOriginText(body(new Uint8Array(10), new Uint8Array(10)).response, 20)).toHaveLength(20);
  const long = body(new Uint8Array(10), new Uint8Array(11), new Uint8Array(10));
  expect(await readOriginText(long.response, 20)).toBeNull();
  expect([long.left(), long.cancelled()]).toEqual([1, true]);
});

it('throws when the connection breaks', async () => {
  const broken = new ReadableStream({ start: (controller) => controller.error(new Error('reset')) });
  await expect(readOriginText(new Response(broken))).rejects.toThrow('reset');
});

describe('readAnswer', () => {
  const limits = { bytes: 20, stallMs: 20 };
  const tens = (count: number) => body(...Array.from({ length: count }, () => new Uint8Array(10)));

  it('reads a whole answer, with its status and headers', async () => {
    const { response } = tens(2);
    const given = new Response(response.body, { status: 201, headers: { 'x-some': 'thing' } });
    const answer = await readAnswer(given, limits);
    expect([answer?.status, answer?.headers.get('x-some')]).toEqual([201, 'thing']);
    expect((await answer?.arrayBuffer())?.byteLength).toBe(20);
  });

  it('passes the rest of a longer one on as it is read, or cancels it', async () => {
    const long = tens(5);
    const answer = await readAnswer(long.response, limits);
    expect(long.left()).toBe(2);
    expect((await answer?.arrayBuffer())?.byteLength).toBe(50);
    const left = tens(5);
    await (await readAnswer(left.response, limits))?.body?.cancel();
    expect(left.cancelled()).toBe(true);
  });

  it('is null when the connection breaks or falls silent', async () => {
    const broken = new ReadableStream({ start: (controller) => controller.error(new Error('reset')) });
    expect(await readAnswer(new Response(broken), limits)).toBeNull();
    expect(await readAnswer(new Response(new ReadableStream()), limits)).toBeNull();
  });
});
