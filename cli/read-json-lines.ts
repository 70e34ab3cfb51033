import { readFile, stat } from 'node:fs/promises';
import type { z } from 'zod';
import { lineProblems, parseJsonLines, type JsonLinesRows } from '../protocol/json-lines.ts';
import { usageError } from './flags.ts';
import { bytesSha256 } from './local/find-base.ts';

export interface JsonLines<Row> extends Pick<JsonLinesRows<Row>, 'rows'> {
  /** Limit of the file's bytes. */
  readonly sha256: string;
}

/** An evaluation is a sample; a training set given by mistake must not be sent row by row. */
export const MAX_ROWS = 10_000;
const MAX_FILE_BYTES = 64 * 1024 * 1024;

/**
 * Reads JSON Lines, one row each, skipping empty lines.
 * @param what the file's name in errors, such as `--eval rows.jsonl`.
 * @throws CliError (usage) with the lines that are wrong.
 */
export async function readJsonLines<Row>(params: {
  file: string;
  what: string;
  schema: z.ZodType<Row>;
}): Promise<JsonLines<Row>> {
  const { file, what, schema } = params;
  const bytes = await readRegular(file, what);
  const parsed = parseJsonLines(bytes, schema);
  if (parsed === null) throw usageError(`${what} is not UTF-8 text.`);
  const { rows, problems } = parsed;
  if (problems.length > 0) throw usageError(`${what}, ${lineProblems(problems)}.`);
  if (rows.length === 0) throw usageError(`${what} has no rows.`);
  if (rows.length > MAX_ROWS)
    throw usageError(`${what} has ${rows.length} rows; at most ${MAX_ROWS} can be evaluated.`);
  return { rows, sha256: bytesSha256(bytes) };
}

async function readRegular(file: string, what: string): Promise<Buffer> {
  const entry = await stat(file).catch(() => null);
  if (entry === null || !entry.isFile()) throw usageError(`${what}: no such file.`);
  if (entry.size > MAX_FILE_BYTES)
    throw usageError(`${what} has ${entry.size} bytes; at most ${MAX_FILE_BYTES} are read.`);
  return readFile(file).catch(() => {
    throw usageError(`${what} cannot be read.`);
  });
}
