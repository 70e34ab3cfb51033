/** What is read of a completion's stream as it goes by: its first token, and its usage, which is taken out. */
import { z } from 'zod';
import { readUsageNote, USAGE_COMMENT, type UsageNote } from '../../protocol/index.ts';

/** A token with its 20 likeliest others is about 5 kB; what is longer repeats the request. */
const MAX_LINE_CHARACTERS = 64 * 1024;
const DATA = 'data: ';

const Spoken = z.string().min(1);
/** What the first event of each API has that says something: text, a call, log-probabilities, or the end. */
const Choice = z.union([
  z.object({ delta: z.object({ content: Spoken }) }),
  z.object({ delta: z.object({ tool_calls: z.array(z.unknown()).min(1) }) }),
  z.object({ text: Spoken }),
  z.object({ logprobs: z.object({}) }),
  z.object({ finish_reason: z.string() }),
]);
const Event = z.union([
  z.object({ choices: z.array(z.unknown()) }),
  z.object({ type: z.literal('response.output_text.delta'), delta: Spoken }),
  z.object({ type: z.literal('response.output_text.done') }),
  z.object({ type: z.literal('response.function_call_arguments.delta') }),
  z.object({ type: z.enum(['content_block_delta', 'message_delta']) }),
]);

/**
 * Whether one of these whole events of a stream says something: neither the role, nor the request over again, nor a
 * heartbeat. Asked until it is so; an opening and its heartbeats are a few events.
 */
export function hasToken(frames: Uint8Array): boolean {
  return new TextDecoder()
    .decode(frames)
    .split('\n')
    .some(
      (line) => line.startsWith(DATA) && line.length <= MAX_LINE_CHARACTERS && says(line.slice(DATA.length)),
    );
}

function says(data: string): boolean {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return false;
  }
  const event = Event.safeParse(value);
  if (!event.success) return false;
  return 'choices' in event.data
    ? event.data.choices.some((choice) => Choice.safeParse(choice).success)
    : true;
}

const NEWLINE = 0x0a;
const COLON = 0x3a;
const D = 0x64;
/** A comment longer than this is not ours, and goes on as it is; it bounds what is held back. */
const MAX_COMMENT_BYTES = 128;
const NOTHING = new Uint8Array(0);
const PREFIX = new TextEncoder().encode(USAGE_COMMENT);

/**
 * Reads the origin's note of usage out of a stream of server-sent events and takes it away, byte for byte as if it had
 * not been there. Lines are told apart by their first byte alone (JSON has no bare newline), so that an event costs two
 * searches for a newline; only comments are held back until their end.
 */
export class UsageStripper {
  note: UsageNote | null = null;
  /** Lines of data that went by: an upper bound of an answer's tokens when its end was never seen. */
  events = 0;
  #atLineStart = true;
  /** Of a comment whose end has not come. */
  #held = NOTHING;
  /** After our comment: its empty line goes too. */
  #skipEmptyLine = false;
  readonly #takesComments: boolean;

  /** @param takesComments whether other comments go on to the client. */
  constructor(takesComments = true) {
    this.#takesComments = takesComments;
  }

  /** @returns what goes on; possibly nothing. */
  push(chunk: Uint8Array): Uint8Array[] {
    const out: Uint8Array[] = [];
    const data = this.#held.length === 0 ? chunk : concat(this.#held, chunk);
    this.#held = NOTHING;
    let from = 0;
    let at = 0;
    while (at < data.length) {
      if (this.#atLineStart) {
        if (this.#skipEmptyLine) {
          this.#skipEmptyLine = false;
          if (data[at] === NEWLINE) {
            if (at > from) out.push(data.subarray(from, at));
            at += 1;
            from = at;
            continue;
          }
        }
        if (data[at] === COLON) {
          const end = data.indexOf(NEWLINE, at);
          if (end === -1 && data.length - at < MAX_COMMENT_BYTES) {
            if (at > from) out.push(data.subarray(from, at));
            this.#held = data.slice(at);
            return out;
          }
          if (end !== -1 && this.#take(data.subarray(at, end))) {
            if (at > from) out.push(data.subarray(from, at));
            at = end + 1;
            from = at;
            this.#skipEmptyLine = true;
            continue;
          }
        } else if (data[at] === D) this.events += 1;
      }
      const end = data.indexOf(NEWLINE, at);
      this.#atLineStart = end !== -1;
      at = end === -1 ? data.length : end + 1;
    }
    if (from === 0) out.push(data);
    else if (from < data.length) out.push(data.subarray(from));
    return out;
  }

  /** @returns what was still held back. */
  end(): Uint8Array[] {
    const rest = this.#held;
    this.#held = NOTHING;
    return rest.length === 0 ? [] : [rest];
  }

  /** @returns whether the comment goes no further. */
  #take(line: Uint8Array): boolean {
    if (line.length > MAX_COMMENT_BYTES) return false;
    if (PREFIX.some((byte, i) => line[i] !== byte)) return !this.#takesComments;
    const note = readUsageNote(new TextDecoder().decode(line.subarray(PREFIX.length)));
    if (note === null) return false;
    this.note = note;
    return true;
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
