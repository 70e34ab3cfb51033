/** What was typed in conversations, for the next one: beside the credentials, its owner's alone. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { credentialsPath } from '../credentials-file.ts';
import { writePrivateFile } from '../local/private-file.ts';

type Env = Record<string, string | undefined>;

export const HISTORY_LINES = 1_000;
/** A pasted book is not worth keeping. */
const LONGEST_LINE = 10_000;

/** @returns null where there is no home folder. */
export function historyPath(env: Env): string | null {
  const credentials = credentialsPath(env);
  return credentials === null ? null : path.join(path.dirname(credentials), 'history');
}

/** @returns the newest first, as readline has it; none when there is no file that can be read. */
export async function readHistory(env: Env): Promise<string[]> {
  const file = historyPath(env);
  const text = file === null ? '' : await readFile(file, 'utf8').catch(() => '');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .reverse()
    .slice(0, HISTORY_LINES);
}

/** @param lines the newest first. A folder that cannot be written to costs the history, not the conversation. */
export async function writeHistory(env: Env, lines: readonly string[]): Promise<void> {
  const file = historyPath(env);
  if (file === null) return;
  const kept = lines.filter((line) => line.length <= LONGEST_LINE && !line.includes('\n'));
  const text = kept.slice(0, HISTORY_LINES).reverse().join('\n');
  await writePrivateFile(file, `${text}\n`).catch(() => undefined);
}
