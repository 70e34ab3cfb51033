import { createInterface } from 'node:readline/promises';

/** @returns whether somebody at a terminal said yes; null when nobody is there to be asked. */
export async function askYes(question: string): Promise<boolean | null> {
  if (process.stdin.isTTY !== true || process.stderr.isTTY !== true) return null;
  // Answers may be piped on: the question does not belong to them.
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}
