/** A terminal's keys on their way to readline, which knows nothing of pastes and echoes whatever comes. */
import { Transform, type TransformCallback } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

/** Bracketed paste (xterm's control sequences, "Bracketed Paste Mode"): asked for, and what then stands around one. */
export const PASTE_ON = '\u001b[?2004h';
export const PASTE_OFF = '\u001b[?2004l';
const PASTE_BEGIN = '\u001b[200~';
const PASTE_END = '\u001b[201~';
/** Shorter beginnings of the two are keys of their own, such as Escape. */
const LEAST_BEGINNING = 3;
const CTRL_C = '\u0003';

/** Stands for a line break within a turn: readline would take the break itself for Enter. */
const LINE_BREAK = '⏎';

/** @returns the text of a turn, from the line that readline gave. */
export const withLineBreaks = (line: string): string => line.replaceAll(LINE_BREAK, '\n');

interface Terminal extends NodeJS.ReadableStream {
  setRawMode?(mode: boolean): unknown;
}

/**
 * Keys, with the line breaks of a paste as {@link LINE_BREAK}, so that pasted lines are one turn. While it is held,
 * keys are kept for later, unseen; Ctrl-C then is the event `interrupt`.
 */
export class TerminalInput extends Transform {
  /** What readline asks for before it edits lines. */
  readonly isTTY = true;
  readonly #terminal: Terminal;
  readonly #decoder = new StringDecoder('utf8');
  #pasting = false;
  #rest = '';
  #held: string | null = null;

  constructor(terminal: Terminal) {
    super({ decodeStrings: true, encoding: 'utf8' });
    this.#terminal = terminal;
  }

  setRawMode(mode: boolean): this {
    this.#terminal.setRawMode?.(mode);
    return this;
  }

  hold(): void {
    this.#held ??= '';
  }

  release(): void {
    const keys = this.#held ?? '';
    this.#held = null;
    if (keys !== '') this.push(keys);
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const keys = this.#readable(this.#rest + this.#decoder.write(chunk));
    if (this.#held === null) {
      if (keys !== '') this.push(keys);
    } else {
      if (keys.includes(CTRL_C)) this.emit('interrupt');
      this.#held += keys.replaceAll(CTRL_C, '');
    }
    done();
  }

  /** @param text keys, with the beginning that was left over. @returns without the marks of pastes. */
  #readable(text: string): string {
    let out = '';
    let rest = text;
    for (;;) {
      const mark = this.#pasting ? PASTE_END : PASTE_BEGIN;
      const at = rest.indexOf(mark);
      const end = at === -1 ? rest.length - this.#unfinished(mark, rest) : at;
      const piece = rest.slice(0, end);
      out += this.#pasting ? piece.replace(/\r\n|\r|\n/g, LINE_BREAK) : piece;
      if (at === -1) {
        this.#rest = rest.slice(end);
        return out;
      }
      rest = rest.slice(at + mark.length);
      this.#pasting = !this.#pasting;
    }
  }

  /** @returns how many characters at the end of `text` mean something only with those that follow. */
  #unfinished(mark: string, text: string): number {
    for (let length = mark.length - 1; length >= LEAST_BEGINNING; length--)
      if (text.endsWith(mark.slice(0, length))) return length;
    return this.#pasting && text.endsWith('\r') ? 1 : 0;
  }
}
