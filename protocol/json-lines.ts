import type { z } from 'zod';

export interface JsonLinesRows<Row> {
  /** `line` counts from 1, empty ones too. */
  readonly rows: readonly { readonly line: number; readonly row: Row }[];
  /** Without a full stop. */
  readonly problems: readonly { readonly line: number; readonly problem: string }[];
}

/** A row must fit a 512 KB request with room to spare. */
export const MAX_ROW_BYTES = 256 * 1024;

/** Reads JSON Lines, one row each, skipping empty lines. @returns null if it is not UTF-8. */
export function parseJsonLines<Row>(bytes: Uint8Array, schema: z.ZodType<Row>): JsonLinesRows<Row> | null {
  let content: string;
  try {
    content = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
  const rows: { line: number; row: Row }[] = [];
  const problems: { line: number; problem: string }[] = [];
  for (const [index, text] of content.split('\n').entries()) {
    if (text.trim() === '') continue;
    const line = index + 1;
    const parsed = parseRow(text, schema);
    if (parsed.ok) rows.push({ line, row: parsed.row });
    else problems.push({ line, problem: parsed.problem });
  }
  return { rows, problems };
}

const MAX_TOLD = 3;

/** @returns such as `line 2: not JSON; line 5: "expected" must not be empty; and 3 more lines`. */
export function lineProblems(problems: JsonLinesRows<unknown>['problems']): string {
  const more = problems.length > MAX_TOLD ? `; and ${problems.length - MAX_TOLD} more lines` : '';
  const first = problems.slice(0, MAX_TOLD).map(({ line, problem }) => `line ${line}: ${problem}`);
  return `${first.join('; ')}${more}`;
}

function parseRow<Row>(
  line: string,
  schema: z.ZodType<Row>,
): { ok: true; row: Row } | { ok: false; problem: string } {
  if (new TextEncoder().encode(line).length > MAX_ROW_BYTES)
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
