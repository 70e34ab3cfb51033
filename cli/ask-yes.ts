import { askAtTerminal } from './ask-at-terminal.ts';

/** @returns whether somebody at a terminal said yes; null when nobody is there to be asked. */
export async function askYes(question: string): Promise<boolean | null> {
  const typed = await askAtTerminal(`${question} [y/N] `);
  return typed === null ? null : /^y(es)?$/i.test(typed);
}
