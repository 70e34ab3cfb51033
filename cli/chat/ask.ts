import { EventSourceParserStream } from 'eventsource-parser/stream';
import stringWidth from 'string-width';
import { z } from 'zod';
import type { ChatMessage } from '../../protocol/completion.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { harmless, colors, type Output, terminalWidth } from '../output.ts';

/** Fields of the request beside its messages. */
export type Settings = { model: string } & Record<string, unknown>;

/**
 * One turn, streamed to stdout. @returns the answer's text.
 * @throws CliError what the server says; `stream_cut` when the answer broke off.
 */
export async function ask(params: {
  client: ApiClient;
  output: Output;
  settings: Settings;
  messages: readonly ChatMessage[];
  signal?: AbortSignal;
  /** Tell somebody at a terminal how fast it came. */
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
      write(flow === null ? piece : flow.push(harmless(piece)));
    });
    write(`${flow?.end() ?? ''}\n`);
    if (tellSpeed && flow !== null && usage !== null && first !== null)
      output.note(colors.dim(speedText(usage.completion_tokens, performance.now() - first)));
    if (output.json) output.result({ model: settings.model, ...served, text, usage }, () => '');
    return text;
  } catch (error) {
    // What came before it broke off, or was ended, is shown.
    write(`${flow?.end() ?? ''}\n`);
    throw error;
  }
}

/** @param ms from the first piece of the answer to its end. */
export const speedText = (tokens: number, ms: number): string =>
  `${tokens} token${tokens === 1 ? '' : 's'}` +
  (tokens > 1 && ms > 0 ? `, ${((1_000 * (tokens - 1)) / ms).toFixed(1)} a second` : '');

/** Breaks text between words as it comes, piece by piece; a word is held until it is whole. */
export class FlowText {
  readonly #width: number;
  #column = 0;
  #spaces = '';
  #word = '';

  /** @param width columns of the terminal. */
  constructor(width: number) {
    this.#width = width;
  }

  /** @returns what may be written now. */
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
    // A word that is wider than a line is broken by the terminal.
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

/** What an answer's headers say of what served it. */
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

/** @returns a line for people when something else answered than was asked for, or null. */
export function servedNote(model: string, { adapter, inherited, degraded }: ServedBy): string | null {
  switch (degraded) {
    case 'base':
      return `${model} cannot be had now: the base model answers`;
    case 'ancestor':
      return `${model} cannot be had now: ${adapter} answers`;
    case 'stale':
      return `the registry does not answer: ${adapter} is what was last known`;
    default:
      return inherited ? `there is no ${model} for this key: ${adapter} answers (--strict forbids it)` : null;
  }
}
