import { expect, it } from 'vitest';
import { readOriginText } from '../../../worker/origins/connection.ts';

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
