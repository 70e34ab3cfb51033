import { interrupted } from './cli-error.ts';
import { readRaw } from './read-raw.ts';

const INTERRUPT = '\u0003';
const END = '\u0004';
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
