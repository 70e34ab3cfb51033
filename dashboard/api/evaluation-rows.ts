/** Reads a file of rows for a kept evaluation, with the checks of `graft eval add`. Nothing is sent. */
import {
  EvaluationLabel,
  JudgedRow,
  KeepEvaluation,
  MAX_KEPT_EVALUATION_BYTES,
  MAX_KEPT_ROWS,
  type KeptRow,
} from '../../protocol/admin-api/evaluations.ts';
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { lineProblems, parseJsonLines } from '../../protocol/json-lines.ts';
import { ScoredRow } from '../../protocol/origin-wire.ts';

/** With room for spaces and line breaks that are not kept. */
const MAX_FILE_BYTES = 2 * MAX_KEPT_EVALUATION_BYTES;

/** @param judged whether the answers are judged. @returns the rows, or what is wrong with the file. */
export async function readEvaluationRows(file: File, judged: boolean): Promise<Result<KeptRow[], string>> {
  const { name } = file;
  const most = `An evaluation keeps at most ${MAX_KEPT_EVALUATION_BYTES} bytes of rows.`;
  if (file.size > MAX_FILE_BYTES) return err(`${name} is too large. ${most}`);
  const bytes = await file.arrayBuffer().catch(() => null);
  if (bytes === null) return err(`${name} cannot be read. Choose it again.`);
  const parsed = parseJsonLines<KeptRow>(new Uint8Array(bytes), judged ? JudgedRow : ScoredRow);
  if (parsed === null) return err(`${name} is not UTF-8 text.`);
  if (parsed.problems.length > 0)
    return err(`${name}, ${lineProblems(parsed.problems)}. Correct the file and choose it again.`);
  const rows = parsed.rows.map(({ row }) => row);
  if (rows.length === 0) return err(`${name} has no rows.`);
  if (rows.length > MAX_KEPT_ROWS)
    return err(`${name} has ${rows.length} rows. An evaluation keeps at most ${MAX_KEPT_ROWS}.`);
  const text = rows.map((row) => JSON.stringify(row)).join('\n');
  if (new TextEncoder().encode(text).length > MAX_KEPT_EVALUATION_BYTES)
    return err(`${name} is too large. ${most}`);
  return ok(rows);
}

/** Files that are rows, not adapters. */
export const isRowsFile = ({ name }: Pick<File, 'name'>): boolean => /\.(jsonl|ndjson)$/i.test(name);

/** @returns the label that a file's name suggests: as `graft eval add` does. */
export const labelOf = (file: string): string => file.replace(/(?<=.)\.[^.]*$/, '').toLowerCase();

/** @returns what is wrong with a judge, as a sentence; null = nothing. */
export function judgeProblem(judge: string): string | null {
  const issue = KeepEvaluation.shape.judge.safeParse(judge).error?.issues[0];
  return issue === undefined ? null : `A judge ${issue.message}.`;
}

/** @returns what is wrong with a label, as a sentence; null = nothing. */
export function labelProblem(label: string): string | null {
  const issue = EvaluationLabel.safeParse(label).error?.issues[0];
  return issue === undefined ? null : `A label ${issue.message}.`;
}
