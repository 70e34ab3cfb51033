import { on } from 'node:events';
import { createInterface } from 'node:readline/promises';
import { CliError, EXIT, interrupted } from './cli-error.ts';

/** @returns what somebody at a terminal typed, without spaces around it; null when nobody is there to be asked. */
async function askAtTerminal(question: string): Promise<string | null> {
  if (process.stdin.isTTY !== true || process.stderr.isTTY !== true) return null;
  // Answers may be piped on: the question does not belong to them.
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  // Its last line is the prompt, which readline draws again with each key.
  const prompt = question.lastIndexOf('\n') + 1;
  process.stderr.write(question.slice(0, prompt));
  try {
    return (await terminal.question(question.slice(prompt))).trim();
  } finally {
    terminal.close();
  }
}

/**
 * Has somebody at a terminal type what they are about to lose, so that nobody does it by a habit of answering yes.
 * @param params.said what will happen, a line or more. @param params.word to be typed. @param params.yes `--yes`.
 * @throws CliError (refused) when it was not typed, or nobody is there to type it.
 */
export async function askTyped(params: { said: string; word: string; yes: boolean }): Promise<void> {
  const { said, word, yes } = params;
  if (yes) return;
  const typed = await askAtTerminal(`${said}\nType '${word}' to go on: `);
  if (typed === null)
    throw refused(
      `${said}\nNobody is at a terminal to confirm it: add --yes to do it, or --dry-run to see it.`,
    );
  if (typed !== word) throw refused('nothing was changed');
}

const refused = (message: string): CliError =>
  new CliError({ message, exitCode: EXIT.refused, code: 'not_confirmed' });

/** @returns whether somebody at a terminal said yes; null when nobody is there to be asked. */
export async function askYes(question: string): Promise<boolean | null> {
  const typed = await askAtTerminal(`${question} [y/N] `);
  return typed === null ? null : /^y(es)?$/i.test(typed);
}

/**
 * What is typed on a terminal, as it arrives, in raw mode: without Enter, not shown, and Ctrl-C is a character. Not
 * `for await` over the input itself, which destroys it at the end: then nobody could leave raw mode before the process
 * is gone, and Ctrl-C would do nothing meanwhile.
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
    // Nothing is read any more, so that the process may end.
    input.pause();
  }
}

type Input = NodeJS.ReadStream | (AsyncIterable<Buffer | string> & { isTTY?: boolean });

/** A key has 36 characters; a wrong pipe may never end. */
const MAX_SECRET = 4_096;

const INTERRUPT = '\u0003';
const END = '\u0004';
const BACKSPACE = new Set(['\u007f', '\b']);

/**
 * Reads one line that nobody should see: from a pipe, or typed on a terminal without being shown.
 * @param prompt written to stderr, on a terminal only.
 * @returns the line without the spaces around it; empty when there was none.
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
/** What follows the escape of a key that is no character (ECMA-48: CSI, SS3), and the range of what ends it. */
const INTRODUCERS = '[O';
const [FIRST_FINAL, LAST_FINAL] = ['@', '~'];

/**
 * What is typed on a terminal, a character at a time and without Enter, until Ctrl-D. Keys that are no character
 * (arrows, Home, Alt with another) are left out: they arrive as several, with digits and letters among them.
 * @throws CliError `interrupted` on Ctrl-C; the signal's reason once it fires.
 */
export async function* readKeys(
  options: { input?: NodeJS.ReadStream; signal?: AbortSignal | undefined } = {},
): AsyncGenerator<string> {
  const { input = process.stdin, signal } = options;
  let within: 'nothing' | 'escape' | 'sequence' = 'nothing';
  for await (const piece of readRaw(input, signal)) {
    // Escape alone is a key of its own, unless the rest of a sequence comes late.
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
