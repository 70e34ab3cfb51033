import { z } from 'zod';

/** Bytes of an answer as they go by. Of one that is too long nothing is kept: a beginning cannot be compared. */
export class AnswerCopy {
  readonly #maxBytes: number;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #kept = true;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  push(chunk: Uint8Array): void {
    if (!this.#kept) return;
    this.#bytes += chunk.length;
    // A copy: whoever has the chunk next may hand its memory on.
    if (this.#bytes <= this.#maxBytes) this.#pieces.push(chunk.slice());
    else this.forget();
  }

  /** From now on nothing is kept. */
  forget(): void {
    this.#kept = false;
    this.#pieces = [];
  }

  /** @returns null when it was too long, or forgotten. */
  bytes(): Uint8Array | null {
    if (!this.#kept) return null;
    const all = new Uint8Array(this.#bytes);
    let at = 0;
    for (const piece of this.#pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }
}

/** What is called, and with what, is part of what an answer says. */
const Calls = z.array(
  z.object({ function: z.object({ name: z.string().optional(), arguments: z.string().optional() }) }),
);

/** Of chat and text completions, whole and in events. */
const Choices = z.object({
  choices: z.array(
    z.object({
      index: z.int(),
      text: z.string().optional(),
      message: z.object({ content: z.string().nullish(), tool_calls: Calls.optional() }).optional(),
      delta: z.object({ content: z.string().nullish(), tool_calls: Calls.optional() }).optional(),
    }),
  ),
});
/** Of responses: whole, or in the last of their events. */
const Output = z.object({
  output: z.array(
    z.union([
      z.object({ content: z.array(z.object({ text: z.string() })) }),
      z.object({ name: z.string(), arguments: z.string() }),
    ]),
  ),
});
const LastEvent = z.object({
  type: z.enum(['response.completed', 'response.incomplete']),
  response: Output,
});

/** Of messages: whole, and in events. */
const Block = z.object({ text: z.string().optional() });
const Message = z.object({ type: z.literal('message'), content: z.array(Block) });
const BlockDelta = z.object({ type: z.literal('content_block_delta'), delta: Block });

/** @returns what {@link answerTexts} finds in the copy; null when there is none. */
export function textsOf(copy: AnswerCopy, isStream: boolean): string[] | null {
  const bytes = copy.bytes();
  return bytes === null ? null : answerTexts(new TextDecoder().decode(bytes), isStream);
}

/**
 * The text of each of an answer's choices, in the order of their indexes.
 * @param body JSON, or server-sent events of it.
 * @returns null for what is no answer. Never throws: an error of the parser would quote the text.
 */
export function answerTexts(body: string, isStream: boolean): string[] | null {
  const texts = new Map<number, string>();
  for (const json of isStream ? dataOf(body) : [body]) {
    const value = parsed(json);
    if (value === undefined) return null;
    for (const [index, text] of textsIn(value)) texts.set(index, (texts.get(index) ?? '') + text);
  }
  return texts.size === 0 ? null : [...texts].sort(([a], [b]) => a - b).map(([, text]) => text);
}

/** What an answer or an event adds to each choice. */
function textsIn(value: unknown): [index: number, text: string][] {
  const choices = Choices.safeParse(value);
  if (choices.success)
    return choices.data.choices.map(({ index, text, message, delta }) => [
      index,
      text ?? spoken(message) + spoken(delta),
    ]);
  const message = Message.safeParse(value);
  if (message.success) return [[0, message.data.content.map(({ text }) => text ?? '').join('')]];
  const block = BlockDelta.safeParse(value);
  if (block.success) return [[0, block.data.delta.text ?? '']];
  const whole = Output.safeParse(value);
  const output = whole.success ? whole.data : LastEvent.safeParse(value).data?.response;
  if (output === undefined) return [];
  const said = output.output.map((item) =>
    'content' in item ? item.content.map(({ text }) => text).join('') : item.name + item.arguments,
  );
  return [[0, said.join('')]];
}

const spoken = (
  part: { content?: string | null | undefined; tool_calls?: z.infer<typeof Calls> | undefined } | undefined,
): string =>
  (part?.content ?? '') +
  (part?.tool_calls ?? [])
    .map(({ function: called }) => (called.name ?? '') + (called.arguments ?? ''))
    .join('');

const DATA = 'data:';
const DONE = '[DONE]';

/** JSON has no bare newline, so that an event's data is one line. */
const dataOf = (events: string): string[] =>
  events
    .split('\n')
    .filter((line) => line.startsWith(DATA))
    .map((line) => line.slice(DATA.length).trim())
    .filter((data) => data !== DONE);

/** @returns undefined for what is no JSON. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return undefined;
  }
}
