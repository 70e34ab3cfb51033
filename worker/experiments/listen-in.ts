import { isEventStream } from '../../protocol/index.ts';
import type { MeteredAnswer } from '../metering/ports.ts';
import { AnswerCopy } from './answer-copy.ts';
import { textsOf } from './answer-texts.ts';
import { UsageStripper } from '../metering/strip-usage.ts';

/**
 * Copies an answer while it goes on to the user; it is read when it has ended, so that it is not held up.
 * @param params.signal ends the listening, not the answer.
 * @returns what goes on in its body's place, and what it said: null when it was refused, broke off, was longer than
 * `maxBytes`, was left by its client, or had not ended in time.
 */
export function listenIn(
  { response, note }: Pick<MeteredAnswer, 'response' | 'note'>,
  params: { signal: AbortSignal; maxBytes: number; keepAlive: (work: Promise<unknown>) => void },
): { body: ReadableStream<Uint8Array> | null; texts: Promise<string[] | null> } {
  const { signal, maxBytes, keepAlive } = params;
  const body = response.body as ReadableStream<Uint8Array> | null;
  if (body === null || !response.ok || signal.aborted) return { body, texts: Promise.resolve(null) };
  const stream = isEventStream(response.headers);
  const copy = new AnswerCopy(maxBytes);
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      copy.push(chunk);
      controller.enqueue(chunk);
    },
  });
  const passed = body.pipeTo(writable).then(
    () => (stream && note !== null && !hasNote(copy) ? null : textsOf(copy, stream)),
    () => null,
  );
  keepAlive(passed);
  const late = new Promise<null>((resolve) =>
    signal.addEventListener(
      'abort',
      () => {
        copy.forget();
        resolve(null);
      },
      { once: true },
    ),
  );
  return { body: readable, texts: Promise.race([passed, late]) };
}

/** An origin that notes usage does so before the end of every stream that it brings to its end. */
function hasNote(copy: AnswerCopy): boolean {
  const stripper = new UsageStripper();
  stripper.push(copy.bytes() ?? new Uint8Array(0));
  return stripper.note !== null;
}
