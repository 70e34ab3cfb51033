import { err, ok, type Result } from '../../../protocol/index.ts';
import type { Clock } from '../../engine/ports.ts';
import type { VllmFailure } from './vllm-api.ts';

/** An event of this size is none of ours: the log-probabilities of a step have some kilobytes. */
const MAX_EVENT_CHARACTERS = 1_048_576;

/** The data of each server-sent event; ends with the stream, or with a failure. */
export async function* readEvents(
  body: ReadableStream<Uint8Array> | null,
  { clock, silenceMs }: { clock: Pick<Clock, 'timer'>; silenceMs: number },
): AsyncGenerator<Result<string, VllmFailure>> {
  if (body === null) return yield err({ kind: 'strange', message: 'its stream has no body' });
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let held = '';
  try {
    for (;;) {
      const read = await nextOf(reader, { clock, silenceMs });
      if (!read.ok) return yield read;
      if (read.value === null) return;
      held += decoder.decode(read.value, { stream: true });
      if (held.length > MAX_EVENT_CHARACTERS)
        return yield err({ kind: 'strange', message: 'an event of more than a megabyte' });
      const events = held.split(/\r?\n\r?\n/);
      held = events.pop()!;
      for (const event of events) {
        const data = event
          .split(/\r?\n/)
          .filter((line) => line.startsWith('data:'))
          .map((line) => line.slice(5).trimStart());
        if (data.length > 0) yield ok(data.join('\n'));
      }
    }
  } finally {
    // The run at vLLM ends with its connection.
    await reader.cancel().catch(() => undefined);
  }
}

/** @returns null at the end. */
async function nextOf(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  { clock, silenceMs }: { clock: Pick<Clock, 'timer'>; silenceMs: number },
): Promise<Result<Uint8Array | null, VllmFailure>> {
  let cancel = (): void => undefined;
  const silence = new Promise<Result<never, VllmFailure>>((resolve) => {
    cancel = clock.timer(silenceMs, () => resolve(err({ kind: 'silent', ms: silenceMs })));
  });
  try {
    return await Promise.race([reader.read().then(({ value }) => ok(value ?? null)), silence]);
  } catch (error) {
    const { cause, message } = error as Error & { cause?: { code?: string } };
    return err({ kind: 'gone', message: cause?.code ?? message });
  } finally {
    cancel();
  }
}
