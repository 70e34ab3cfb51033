import { EvaluationRow } from '../../protocol/index.ts';
import { readJsonLines, type JsonLines } from '../read-json-lines.ts';

export { MAX_ROW_BYTES, MAX_ROWS as MAX_EVAL_ROWS } from '../read-json-lines.ts';

export type EvalRows = JsonLines<EvaluationRow>;

/**
 * Reads rows to score an adapter with: `{"prompt" | "user", "system"?, "expected"}`.
 * @throws CliError (usage) with the lines that are wrong.
 */
export const readEvalRows = (file: string): Promise<EvalRows> =>
  readJsonLines({ file, what: `--eval ${file}`, schema: EvaluationRow });
