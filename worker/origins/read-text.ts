import { MAX_ORIGIN_ANSWER_BYTES } from './limits.ts';

/**
 * Reads what an origin says beside completions, which is small. An origin that was taken over may go on without an end:
 * the memory of an isolate is everybody's.
 * @returns null when there is more than `limit` bytes; the rest is not read. @throws when the connection breaks.
 */
export async function readOriginText(
  response: Response,
  limit: number = MAX_ORIGIN_ANSWER_BYTES,
): Promise<string | null> {
  if (response.body === null) return '';
  const decoder = new TextDecoder();
  let text = '';
  let size = 0;
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    size += chunk.length;
    // Leaving the loop cancels the stream.
    if (size > limit) return null;
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
