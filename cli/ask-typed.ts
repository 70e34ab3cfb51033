import { createInterface } from 'node:readline/promises';
import { CliError, EXIT } from './cli-error.ts';

/**
 * Has somebody at a terminal type what they are about to lose, so that nobody does it by a habit of answering yes.
 * @param params.said what will happen, a line or more. @param params.word to be typed. @param params.yes `--yes`.
 * @throws CliError (refused) when it was not typed, or nobody is there to type it.
 */
export async function askTyped(params: { said: string; word: string; yes: boolean }): Promise<void> {
  const { said, word, yes } = params;
  if (yes) return;
  if (process.stdin.isTTY !== true || process.stderr.isTTY !== true)
    throw refused(
      `${said}\nNobody is at a terminal to confirm it: add --yes to do it, or --dry-run to see it.`,
    );
  // Answers may be piped on: the question does not belong to them.
  process.stderr.write(`${said}\n`);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const typed = (await terminal.question(`Type '${word}' to go on: `)).trim();
    if (typed !== word) throw refused('nothing was changed');
  } finally {
    terminal.close();
  }
}

const refused = (message: string): CliError =>
  new CliError({ message, exitCode: EXIT.refused, code: 'not_confirmed' });
