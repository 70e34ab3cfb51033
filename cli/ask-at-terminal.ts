import { on } from 'node:events';
import { createInterface } from 'node:readline/promises';
import { CliError, EXIT, interrupted } from './cli-error.ts';

/** @returns the trimmed input of a user at a terminal; null without a terminal. */
async function askAtTerminal(question: string): Promise<string | null> {
  if (process.stdin.isTTY !== true || process.stderr.isTTY !== true) return null;
  // Output may be piped; the question must not go there.
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // Its last line is the prompt, which readline redraws with each key.
  const prompt = question.lastIndexOf('\n') + 1;
  process.stderr.write(question.slice(0, prompt));
  try {
    return (await terminal.question(question.slice(prompt))).trim();
  } finally {
    terminal.close();
  }
}

/**
 * Makes a user at a terminal type the name of what they are about to lose, so that nobody confirms by habit.
 * @param params.said what will happen, in one or more lines. @param params.word to be typed. @param params.yes
 * `--yes`.
 * @throws CliError (refused) if it was not typed, or there is no terminal.
 */
export async function askTyped(params: { said: string; word: string; yes: boolean }): Promise<void> {
  const { said, word, yes } = params;
  if (yes) return;
  const typed = await askAtTerminal(`${said}\nType '${word}' to confirm: `);
  if (typed === null)
    throw refused(`${said}\nNo terminal to confirm at. Add --yes to do it, or --dry-run to preview it.`);
  if (typed !== word) throw refused('nothing was changed');
}

const refused = (message: string): CliError =>
  new CliError({ message, exitCode: EXIT.refused, code: 'not_confirmed' });

/** @returns whether a user at a terminal confirmed; null without a terminal. */
export async function askYes(question: string): Promise<boolean | null> {
  const typed = await askAtTerminal(`${question} [y/N] `);
  return typed === null ? null : /^y(es)?$/i.test(typed);
}

/**
 * Terminal input as it arrives, in raw mode: without Enter, not echoed, and Ctrl-C is a character. Not `for
 * await` over the input itself, which destroys it at the end: raw mode could then not be left before the
 * process ends, and Ctrl-C would do nothing.
 * @throws the signal's reason once it fires.
 */
async function* readRaw(input: NodeJS.ReadStream, signal?: AbortSignal): AsyncGenerator<string> {
  signal?.throwIfAborted();
  input.setRawMode(true);
  try {
    const pieces = on(input, 'data', { close: ['end', 'close'], ...(signal && { signal }) });
    for await (const [piece] of pieces) yield String(piece);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    input.setRawMode(false);
    // Stop reading, so that the process may end.
    input.pause();
  }
}

type Input = NodeJS.ReadStream | (AsyncIterable<Buffer | string> & { isTTY?: boolean });

/** A key has 36 characters; the wrong pipe may never end. */
const MAX_SECRET = 4_096;

const INTERRUPT = '\u0003';
const END = '\u0004';
const BACKSPACE = new Set(['\u007f', '\b']);

/**
 * Reads one secret line: from a pipe, or typed on a terminal without echo.
 * @param prompt written to stderr, on a terminal only.
 * @returns the trimmed line; empty if there was none.
 * @throws CliError `interrupted` on Ctrl-C.
 */
export async function readSecret(prompt: string, input: Input = process.stdin): Promise<string> {
  const terminal = input.isTTY === true;
  if (terminal) process.stderr.write(prompt);
  const raw = terminal && 'setRawMode' in input ? input : null;
  try {
    let text = '';
    for await (const piece of raw === null ? input : readRaw(raw)) {
      for (const character of String(piece)) {
        if (character === '\n' || character === '\r') return text.trim();
        if (raw === null) text += character;
        else if (character === INTERRUPT) throw interrupted();
        else if (character === END) return text.trim();
        else if (BACKSPACE.has(character)) text = text.slice(0, -1);
        else text += character;
        if (text.length > MAX_SECRET) return text.trim();
      }
    }
    return text.trim();
  } finally {
    if (terminal) process.stderr.write('\n');
  }
}

const ESCAPE = '\u001b';
/** What follows the escape of a special key (ECMA-48: CSI, SS3), and the range of its final character. */
const INTRODUCERS = '[O';
const [FIRST_FINAL, LAST_FINAL] = ['@', '~'];

/**
 * Characters typed on a terminal, without Enter, until Ctrl-D. Special keys (arrows, Home, Alt combinations)
 * are dropped: they arrive as several characters, with digits and letters among them.
 * @throws CliError `interrupted` on Ctrl-C; the signal's reason once it fires.
 */
export async function* readKeys(
  options: { input?: NodeJS.ReadStream; signal?: AbortSignal | undefined } = {},
): AsyncGenerator<string> {
  const { input = process.stdin, signal } = options;
  let within: 'nothing' | 'escape' | 'sequence' = 'nothing';
  for await (const piece of readRaw(input, signal)) {
    // Escape alone is a key, unless the rest of a sequence arrives late.
    if (within === 'escape' && !INTRODUCERS.includes(piece.charAt(0))) within = 'nothing';
    for (const character of piece) {
      if (character === INTERRUPT) throw interrupted();
      if (character === END) return;
      if (character === ESCAPE) within = 'escape';
      else if (within === 'escape') within = INTRODUCERS.includes(character) ? 'sequence' : 'nothing';
      else if (within === 'nothing') yield character;
      else if (character >= FIRST_FINAL && character <= LAST_FINAL) within = 'nothing';
    }
  }
}
