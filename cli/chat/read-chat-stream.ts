import { EventSourceParserStream } from 'eventsource-parser/stream';
import { z } from 'zod';
import { CliError, EXIT } from '../cli-error.ts';

const Chunk = z.object({
  choices: z.array(z.object({ delta: z.object({ content: z.string().nullish() }) })),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int(), total_tokens: z.int() }).nullish(),
});
const StreamError = z.object({ error: z.object({ message: z.string(), code: z.string().nullish() }) });

export type ChatUsage = NonNullable<z.infer<typeof Chunk>['usage']>;

/**
 * Reads a streamed chat completion.
 * @param onText hears each piece as it comes.
 * @throws CliError when the stream carries an error or ends without `[DONE]`.
 */
export async function readChatStream(
  body: ReadableStream<Uint8Array>,
  onText: (text: string) => void,
): Promise<{ text: string; usage: ChatUsage | null }> {
  const events = body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  let text = '';
  let usage: ChatUsage | null = null;
  for await (const { data } of events) {
    if (data === '[DONE]') return { text, usage };
    const value: unknown = JSON.parse(data);
    const failure = StreamError.safeParse(value);
    if (failure.success) {
      const { message, code } = failure.data.error;
      throw new CliError({ message, code: code ?? 'stream_error' });
    }
    const chunk = Chunk.parse(value);
    usage = chunk.usage ?? usage;
    const piece = chunk.choices[0]?.delta.content ?? '';
    if (piece === '') continue;
    text += piece;
    onText(piece);
  }
  throw new CliError({
    message: 'The answer broke off before its end; the server or the connection went away.',
    exitCode: EXIT.unavailable,
    code: 'stream_cut',
  });
}
