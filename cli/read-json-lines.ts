import { readFile, stat } from 'node:fs/promises';
import type { z } from 'zod';
import { usageError } from './flags.ts';
import { bytesSha256 } from './local/find-base.ts';

export interface JsonLines<Row> {
  /** `line` counts from 1, empty ones too. */
  readonly rows: readonly { readonly line: number; readonly row: Row }[];
  /** Limit of the file's bytes. */
  readonly sha256: string;
}

/** An evaluation is a sample; a training set given by mistake must not be sent row by row. */
export const MAX_ROWS = 10_000;
const MAX_FILE_BYTES = 64 * 1024 * 1024;
/** A row must fit a 512 KB request with room to spare. */
export const MAX_ROW_BYTES = 256 * 1024;
const MAX_TOLD = 3;

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
  let content: string;
  try {
    content = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw usageError(`${what} is not UTF-8 text.`);
  }
  const rows: { line: number; row: Row }[] = [];
  const problems: string[] = [];
  for (const [index, line] of content.split('\n').entries()) {
    if (line.trim() === '') continue;
    const parsed = parseRow(line, schema);
    if (parsed.ok) rows.push({ line: index + 1, row: parsed.row });
    else problems.push(`line ${index + 1}: ${parsed.problem}`);
  }
  if (problems.length > 0) {
    const more = problems.length > MAX_TOLD ? `; and ${problems.length - MAX_TOLD} more lines` : '';
    throw usageError(`${what}, ${problems.slice(0, MAX_TOLD).join('; ')}${more}.`);
  }
  if (rows.length === 0) throw usageError(`${what} has no rows.`);
  if (rows.length > MAX_ROWS)
    throw usageError(`${what} has ${rows.length} rows; at most ${MAX_ROWS} can be evaluated.`);
  return { rows, sha256: bytesSha256(bytes) };
}

function parseRow<Row>(
  line: string,
  schema: z.ZodType<Row>,
): { ok: true; row: Row } | { ok: false; problem: string } {
  if (Buffer.byteLength(line) > MAX_ROW_BYTES)
    return { ok: false, problem: `longer than ${MAX_ROW_BYTES} bytes` };
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return { ok: false, problem: 'not JSON' };
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return { ok: true, row: parsed.data };
  const [issue] = parsed.error.issues;
  const where = issue?.path.length ? `"${issue.path.join('.')}" ` : '';
  return { ok: false, problem: `${where}${issue?.message ?? 'not a row'}` };
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
