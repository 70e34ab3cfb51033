import { createInterface } from 'node:readline/promises';

/** @returns what somebody at a terminal typed, without spaces around it; null when nobody is there to be asked. */
export async function askAtTerminal(question: string): Promise<string | null> {
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
