import { interrupted } from './cli-error.ts';
import { readRaw } from './read-raw.ts';

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
