import { askAtTerminal } from './ask-at-terminal.ts';
import { CliError, EXIT } from './cli-error.ts';

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
