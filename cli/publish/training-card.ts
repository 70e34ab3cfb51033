/** The training card in an adapter's folder, and its line in texts. */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import {
  MAX_TRAINING_FILE_BYTES,
  notACard,
  readTrainingText,
  TRAINING_FILE,
  type TrainingCard,
} from '../../protocol/training.ts';
import { CliError, EXIT } from '../cli-error.ts';

/** @returns null without the file. @throws CliError `training_invalid` (usage) when it is not a training card. */
export async function readTrainingCard(folder: string): Promise<TrainingCard | null> {
  const file = path.join(folder, TRAINING_FILE);
  const broken = (message: string): CliError =>
    new CliError({ message: `${folder}: ${message}`, exitCode: EXIT.usage, code: 'training_invalid' });
  try {
    const entry = await stat(file);
    // Reading a pipe or a device may never end.
    if (!entry.isFile()) throw broken(notACard('it is not a file'));
    if (entry.size > MAX_TRAINING_FILE_BYTES)
      throw broken(notACard(`it has ${entry.size} bytes; at most ${MAX_TRAINING_FILE_BYTES} are read`));
    const card = readTrainingText(await readFile(file, 'utf8'));
    if (!card.ok) throw broken(card.error);
    return card.value;
  } catch (error) {
    if (error instanceof CliError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    throw broken(notACard(`it cannot be read (${code ?? String(error)})`));
  }
}

/** Cards that were parsed have their fields in the schema's order. */
export const sameCard = (a: TrainingCard | null, b: TrainingCard | null): boolean =>
  JSON.stringify(a) === JSON.stringify(b);

/**
 * @returns such as `trained on 60 rows (sha256 ab12cd34ef56), 90 steps, loss 2.31 → 0.04, held out 38 of 40 exact
 * (loss 2.4 → 0.09)`; the first losses are those of training.
 */
export function trainingText({ rows, steps, curve, scores, prompts }: TrainingCard): string {
  const [first, last] = [curve[0], curve.at(-1)];
  return [
    `trained on ${rows.trained} row${rows.trained === 1 ? '' : 's'} (sha256 ${rows.sha256.slice(0, 12)})`,
    ...(prompts === undefined ? [] : [`made from prompts of ${prompts.users} users`]),
    `${steps} step${steps === 1 ? '' : 's'}`,
    ...(first === undefined || last === undefined ? [] : [`loss ${losses(first[1], last[1])}`]),
    ...(scores === null
      ? []
      : [
          scores.exact === null
            ? `held-out loss ${losses(scores.loss_before, scores.loss)}`
            : `held out ${scores.exact} of ${scores.rows} exact (loss ${losses(scores.loss_before, scores.loss)})`,
        ]),
  ].join(', ');
}

const losses = (before: number, after: number): string => `${threeDigits(before)} → ${threeDigits(after)}`;

const threeDigits = (value: number): string => String(Number(value.toPrecision(3)));
