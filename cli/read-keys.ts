import { interrupted } from './cli-error.ts';

const INTERRUPT = '\u0003';
const END = '\u0004';

/**
 * What is typed on a terminal, a character at a time and without Enter, until Ctrl-D.
 * @throws CliError `interrupted` on Ctrl-C.
 */
export async function* readKeys(input: NodeJS.ReadStream = process.stdin): AsyncGenerator<string> {
  input.setRawMode(true);
  try {
    for await (const piece of input)
      for (const character of String(piece)) {
        if (character === INTERRUPT) throw interrupted();
        if (character === END) return;
        yield character;
      }
  } finally {
    input.setRawMode(false);
  }
}
