import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline/promises';
import type { ChatMessage } from '../../protocol/completion.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { credentialsPath } from '../connection.ts';
import { didYouMean } from '../flags.ts';
import { stripControlChars, colors, type Output } from '../output.ts';
import { writePrivateFile } from '../local/private-files.ts';
import { ask, type Settings } from './ask.ts';
import { Transform, type TransformCallback } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

/**
 * Turns from a terminal until its end (Ctrl-D or `/exit`), with their history. Ctrl-C stops an answer, then
 * clears the line, then exits.
 * @param system its message; undefined for none.
 * @throws CliError when the key is refused; other failures are shown, and the turn can be repeated.
 */
export async function converse(params: {
  client: ApiClient;
  output: Output;
  settings: Settings;
  system: string | undefined;
}): Promise<void> {
  const { client, output, settings } = params;
  const input = new TerminalInput(process.stdin);
  process.stdin.pipe(input);
  const history = await readHistory(process.env);
  const terminal = createInterface({
    ...{ input, output: process.stderr, terminal: true },
    ...{ history, historySize: HISTORY_LINES, removeHistoryDuplicates: true },
  });
  terminal.on('history', (lines: string[]) => void writeHistory(process.env, lines));
  process.stderr.write(PASTE_ON);

  let { system } = params;
  let said: ChatMessage[] = [];
  let answering: AbortController | null = null;
  input.on('interrupt', () => answering?.abort());
  terminal.on('SIGINT', () => {
    if (terminal.line === '') return terminal.close();
    terminal.write(null, { ctrl: true, name: 'u' });
  });

  const answer = async (text: string): Promise<void> => {
    const turn: ChatMessage = { role: 'user', content: text };
    const before: ChatMessage[] = system === undefined ? [] : [{ role: 'system', content: system }];
    answering = new AbortController();
    input.hold();
    try {
      const messages = [...before, ...said, turn];
      const reply = await ask({ client, output, settings, messages, signal: answering.signal });
      said = [...said, turn, { role: 'assistant', content: reply }];
    } catch (error) {
      if (answering.signal.aborted) return;
      if (!(error instanceof CliError) || error.exitCode === EXIT.auth) throw error;
      console.error(`${colors.red('error:')} ${stripControlChars(error.message)}`);
    } finally {
      answering = null;
    }
  };

  terminal.setPrompt(colors.dim(`${settings.model}> `));
  try {
    if (process.stderr.isTTY) output.note(colors.dim('Type /help for commands; Ctrl-D ends.'));
    terminal.prompt();
    for await (const line of terminal) {
      const turn = readTurn(withLineBreaks(line));
      if (turn.kind === 'exit') break;
      if (turn.kind === 'help') output.note(CONVERSATION_HELP);
      else if (turn.kind === 'unknown') output.note(turn.message);
      else if (turn.kind === 'reset') {
        said = [];
        output.note('The conversation is forgotten.');
      } else if (turn.kind === 'system') {
        if (turn.text !== null) system = turn.text === 'none' ? undefined : turn.text;
        output.note(system === undefined ? 'There is no system message.' : `system: ${system}`);
      } else if (turn.text.trim() !== '') await answer(turn.text);
      terminal.prompt();
      // After the prompt, where they are visible.
      input.release();
    }
  } finally {
    process.stderr.write(PASTE_OFF);
    terminal.close();
    process.stdin.unpipe(input);
    process.stdin.pause();
  }
}

/** The meaning of a line of a conversation. */
type Turn =
  | { readonly kind: 'say'; readonly text: string }
  | { readonly kind: 'help' }
  | { readonly kind: 'exit' }
  | { readonly kind: 'reset' }
  /** `text` null: show the current one. */
  | { readonly kind: 'system'; readonly text: string | null }
  | { readonly kind: 'unknown'; readonly message: string };

const COMMANDS = ['/help', '/exit', '/system', '/reset'] as const;

const CONVERSATION_HELP = [
  '/system TEXT   change the system message from the next answer on; /system none removes it, /system ' +
    'shows it',
  '/reset         forget the conversation; the system message stays',
  '/help          show these lines',
  '/exit          end (so does Ctrl-D)',
  'Ctrl-C stops an answer. Pasted lines are one turn. To start a turn with a slash, put a space before it.',
].join('\n');

/** A single word that starts with one slash is a command; `/etc/hosts` is not. */
export function readTurn(line: string): Turn {
  const match = /^(\/[a-z]+)(?:\s+(.*))?$/s.exec(line.trimEnd());
  if (match === null) return { kind: 'say', text: line };
  const [, word = '', rest = ''] = match;
  const text = rest.trim();
  switch (word) {
    case '/help':
      return { kind: 'help' };
    case '/exit':
    case '/quit':
      return { kind: 'exit' };
    case '/reset':
      return { kind: 'reset' };
    case '/system':
      return { kind: 'system', text: text === '' ? null : text };
    default:
      return {
        kind: 'unknown',
        message:
          `${word} is not one of ${COMMANDS.join(', ')}.${didYouMean(word, COMMANDS)} To send it as text, ` +
          'put a space before it.',
      };
  }
}

type Env = Record<string, string | undefined>;

const HISTORY_LINES = 1_000;
/** A pasted book is not worth keeping. */
const LONGEST_LINE = 10_000;

/**
 * Input history of conversations, beside the credentials, readable by its owner only.
 * @returns null without a home folder.
 */
function historyPath(env: Env): string | null {
  const credentials = credentialsPath(env);
  return credentials === null ? null : path.join(path.dirname(credentials), 'history');
}

/** @returns newest first, as readline expects; empty without a readable file. */
async function readHistory(env: Env): Promise<string[]> {
  const file = historyPath(env);
  const text = file === null ? '' : await readFile(file, 'utf8').catch(() => '');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .reverse()
    .slice(0, HISTORY_LINES);
}

/** @param lines newest first. If the folder is not writable, only the history is lost. */
async function writeHistory(env: Env, lines: readonly string[]): Promise<void> {
  const file = historyPath(env);
  if (file === null) return;
  const kept = lines.filter((line) => line.length <= LONGEST_LINE && !line.includes('\n'));
  const text = kept.slice(0, HISTORY_LINES).reverse().join('\n');
  await writePrivateFile(file, `${text}\n`).catch(() => undefined);
}

/** Bracketed paste (xterm's control sequences, "Bracketed Paste Mode"): how to request it, and its markers. */
const PASTE_ON = '\u001b[?2004h';
const PASTE_OFF = '\u001b[?2004l';
const PASTE_BEGIN = '\u001b[200~';
const PASTE_END = '\u001b[201~';
/** Shorter prefixes of the two are keys, such as Escape. */
const LEAST_BEGINNING = 3;
const CTRL_C = '\u0003';

/** Stands for a line break within a turn, because readline would treat the break itself as Enter. */
const LINE_BREAK = '⏎';

/** @returns the text of a turn, from a line of readline. */
export const withLineBreaks = (line: string): string => line.replaceAll(LINE_BREAK, '\n');

interface Terminal extends NodeJS.ReadableStream {
  setRawMode?(mode: boolean): unknown;
}

/**
 * Terminal keys on their way to readline, which does not know pastes and echoes everything: line breaks of a
 * paste become {@link LINE_BREAK}, so that pasted lines are one turn. While it is held, keys are buffered
 * without echo; Ctrl-C then is the event `interrupt`.
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

  /** @returns how many characters at the end of `text` may be the start of a longer sequence. */
  #unfinished(mark: string, text: string): number {
    for (let length = mark.length - 1; length >= LEAST_BEGINNING; length--)
      if (text.endsWith(mark.slice(0, length))) return length;
    return this.#pasting && text.endsWith('\r') ? 1 : 0;
  }
}
