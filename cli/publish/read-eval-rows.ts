import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { EvaluationRow } from '../../protocol/index.ts';
import { usageError } from '../flags.ts';

export interface EvalRows {
  readonly rows: readonly { readonly line: number; readonly row: EvaluationRow }[];
  /** Of the file's bytes. */
  readonly sha256: string;
}

/** An evaluation is a sample; a training set given by mistake is not sent row by row. */
export const MAX_EVAL_ROWS = 10_000;
const MAX_EVAL_BYTES = 64 * 1024 * 1024;
/** A row has to fit a request of 512 KB with room to spare. */
export const MAX_ROW_BYTES = 256 * 1024;
const MAX_TOLD = 3;

/**
 * Reads JSON Lines, one row each: `{"prompt" | "user", "system"?, "expected"}`. Empty lines are skipped.
 * @throws CliError (usage) with the lines that are wrong.
 */
export async function readEvalRows(file: string): Promise<EvalRows> {
  const bytes = await readRegular(file);
  let content: string;
  try {
    content = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw usageError(`--eval ${file} is not UTF-8 text.`);
  }
  const rows: { line: number; row: EvaluationRow }[] = [];
  const problems: string[] = [];
  for (const [index, line] of content.split('\n').entries()) {
    if (line.trim() === '') continue;
    const parsed = parseRow(line);
    if (typeof parsed === 'string') problems.push(`line ${index + 1}: ${parsed}`);
    else rows.push({ line: index + 1, row: parsed });
  }
  if (problems.length > 0) {
    const more = problems.length > MAX_TOLD ? `; and ${problems.length - MAX_TOLD} more lines` : '';
    throw usageError(`--eval ${file}, ${problems.slice(0, MAX_TOLD).join('; ')}${more}.`);
  }
  if (rows.length === 0) throw usageError(`--eval ${file} has no rows.`);
  if (rows.length > MAX_EVAL_ROWS)
    throw usageError(`--eval ${file} has ${rows.length} rows; at most ${MAX_EVAL_ROWS} are evaluated.`);
  return { rows, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** @returns the row, or what is wrong with it. */
function parseRow(line: string): EvaluationRow | string {
  if (Buffer.byteLength(line) > MAX_ROW_BYTES) return `longer than ${MAX_ROW_BYTES} bytes`;
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return 'not JSON';
  }
  const parsed = EvaluationRow.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.length ? `"${issue.path.join('.')}" ` : '';
  return `${where}${issue?.message ?? 'not a row'}`;
}

async function readRegular(file: string): Promise<Buffer> {
  const entry = await stat(file).catch(() => null);
  if (entry === null || !entry.isFile()) throw usageError(`--eval ${file}: no such file.`);
  if (entry.size > MAX_EVAL_BYTES)
    throw usageError(`--eval ${file} has ${entry.size} bytes; at most ${MAX_EVAL_BYTES} are read.`);
  return readFile(file).catch(() => {
    throw usageError(`--eval ${file} cannot be read.`);
  });
}
