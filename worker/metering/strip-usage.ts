import { readUsageNote, USAGE_COMMENT, type UsageNote } from '../../protocol/index.ts';

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

  /** @returns whether the line is a note of usage. */
  #take(line: Uint8Array): boolean {
    if (line.length > MAX_COMMENT_BYTES || PREFIX.some((byte, i) => line[i] !== byte)) return false;
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
