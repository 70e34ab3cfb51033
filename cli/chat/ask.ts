import { EventSourceParserStream } from 'eventsource-parser/stream';
import stringWidth from 'string-width';
import { z } from 'zod';
import type { ChatMessage } from '../../protocol/completion.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { stripControlChars, colors, type Output, terminalWidth } from '../output.ts';

/** Fields of the request besides its messages. */
export type Settings = { model: string } & Record<string, unknown>;

/**
 * One turn, streamed to stdout. @returns the answer's text.
 * @throws CliError the server's error; `stream_cut` when the answer was cut off.
 */
export async function ask(params: {
  client: ApiClient;
  output: Output;
  settings: Settings;
  messages: readonly ChatMessage[];
  signal?: AbortSignal;
  /** Print the speed on a terminal. */
  tellSpeed?: boolean;
}): Promise<string> {
  const { client, output, settings, messages, signal, tellSpeed = false } = params;
  const response = await client.send(`run ${settings.model}`, '/v1/chat/completions', {
    method: 'POST',
    body: JSON.stringify({ ...settings, messages, stream: true, stream_options: { include_usage: true } }),
    ...(signal === undefined ? {} : { signal }),
  });
  if (response.body === null) throw new CliError({ message: 'The server sent no answer.' });
  const served = servedBy(response.headers);
  const note = servedNote(settings.model, served);
  if (note !== null) output.note(colors.dim(note));
  const width = terminalWidth();
  const flow = width === null ? null : new FlowText(width);
  const write = (text: string): void => {
    if (!output.json && text !== '') process.stdout.write(text);
  };
  let first: number | null = null;
  try {
    const { text, usage } = await readChatStream(response.body, (piece) => {
      first ??= performance.now();
      write(flow === null ? piece : flow.push(stripControlChars(piece)));
    });
    write(`${flow?.end() ?? ''}\n`);
    if (tellSpeed && flow !== null && usage !== null && first !== null)
      output.note(colors.dim(speedText(usage.completion_tokens, performance.now() - first)));
    if (output.json) output.result({ model: settings.model, ...served, text, usage }, () => '');
    return text;
  } catch (error) {
    // Whatever arrived before an interruption is shown.
    write(`${flow?.end() ?? ''}\n`);
    throw error;
  }
}

/** @param ms from the first chunk of the answer to its end. */
export const speedText = (tokens: number, ms: number): string =>
  `${tokens} token${tokens === 1 ? '' : 's'}` +
  (tokens > 1 && ms > 0 ? `, ${((1_000 * (tokens - 1)) / ms).toFixed(1)} a second` : '');

/** Breaks streamed text between words; a word is held back until it is complete. */
export class FlowText {
  readonly #width: number;
  #column = 0;
  #spaces = '';
  #word = '';

  /** @param width columns of the terminal. */
  constructor(width: number) {
    this.#width = width;
  }

  /** @returns text that may be written now. */
  push(piece: string): string {
    let out = '';
    for (const letter of piece) {
      if (letter === '\n') {
        out += `${this.#takeWord()}\n`;
        this.#column = 0;
        this.#spaces = '';
      } else if (letter === ' ') {
        out += this.#takeWord();
        this.#spaces += letter;
      } else this.#word += letter;
    }
    return out;
  }

  /** @returns the last word. */
  end(): string {
    return this.#takeWord();
  }

  #takeWord(): string {
    if (this.#word === '') return '';
    const word = this.#word;
    const width = stringWidth(word);
    const breaks = this.#column > 0 && this.#column + this.#spaces.length + width > this.#width;
    const out = breaks ? `\n${word}` : this.#spaces + word;
    const end = breaks ? width : this.#column + this.#spaces.length + width;
    // The terminal breaks words that are wider than a line.
    this.#column = end <= this.#width ? end : end % this.#width || this.#width;
    this.#spaces = '';
    this.#word = '';
    return out;
  }
}

const Chunk = z.object({
  choices: z.array(z.object({ delta: z.object({ content: z.string().nullish() }) })),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int(), total_tokens: z.int() }).nullish(),
});
const StreamError = z.object({ error: z.object({ message: z.string(), code: z.string().nullish() }) });

type ChatUsage = NonNullable<z.infer<typeof Chunk>['usage']>;

/**
 * Reads a streamed chat completion.
 * @param onText called for each chunk.
 * @throws CliError when the stream contains an error or ends without `[DONE]`.
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
    message: 'The answer was cut off; the server or the connection went away.',
    exitCode: EXIT.unavailable,
    code: 'stream_cut',
  });
}

/** What an answer's headers report about who served it. */
interface ServedBy {
  /** `name@version`, or `base`. */
  adapter: string | null;
  inherited: boolean;
  degraded: string | null;
  /** `name@version=scale, …`. */
  composed: string | null;
}

export const servedBy = (headers: Headers): ServedBy => ({
  adapter: headers.get('x-graft-adapter'),
  inherited: headers.get('x-graft-inherited') === 'true',
  degraded: headers.get('x-graft-degraded'),
  composed: headers.get('x-graft-composed'),
});

/** @returns a line for the user when something else than requested answered, or null. */
export function servedNote(model: string, { adapter, inherited, degraded }: ServedBy): string | null {
  switch (degraded) {
    case 'base':
      return `${model} is unavailable: the base model answers`;
    case 'ancestor':
      return `${model} is unavailable: ${adapter} answers`;
    case 'stale':
      return `the registry does not answer: ${adapter} is the last known version`;
    default:
      return inherited ? `no ${model} for this key: ${adapter} answers (use --strict to forbid that)` : null;
  }
}
