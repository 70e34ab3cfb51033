/** Scores versions on kept evaluations, some rows a request, as the command line does. */
import type { ScoredEvaluation } from '../../protocol/admin-api/evaluations.ts';
import { ok, type Result } from '../../protocol/api-error.ts';
import type { MissingScore } from '../../protocol/evaluation-scores.ts';
import type { Problem } from '../model/problem.ts';
import type { Client } from './client.ts';

/** A version, `name@version`, and the evaluation on which it is to be scored. */
export interface WantedScore extends MissingScore {
  readonly adapter: string;
}

/** Rows, those of all wanted scores together. */
export interface RowsScored {
  readonly done: number;
  readonly total: number;
}

/**
 * Repeats the request until each score is complete. The edge keeps what is scored, so the same call continues after
 * a failure.
 * @param params.name whose evaluations. @param params.isStopped asked between requests.
 * @returns the complete scores, in the order of `wanted`; null if it was stopped.
 */
export async function scoreRows(
  client: Client,
  params: {
    name: string;
    wanted: readonly WantedScore[];
    isStopped: () => boolean;
    onProgress: (rows: RowsScored) => void;
  },
): Promise<Result<ScoredEvaluation[] | null, Problem>> {
  const { name, wanted, isStopped, onProgress } = params;
  const counts = wanted.map(({ rows, scored }) => ({ rows, scored }));
  const tell = () =>
    onProgress({
      done: counts.reduce((sum, { scored }) => sum + scored, 0),
      total: counts.reduce((sum, { rows }) => sum + rows, 0),
    });
  const scores: ScoredEvaluation[] = [];
  tell();
  for (const [i, { adapter, label }] of wanted.entries())
    for (;;) {
      const answer = await client.call('POST /admin/evaluations/score', { body: { name, label, adapter } });
      if (isStopped()) return ok(null);
      if (!answer.ok) return answer;
      const { rows, scored } = answer.value;
      counts[i] = { rows, scored };
      tell();
      if (scored < rows) continue;
      scores.push(answer.value);
      break;
    }
  return ok(scores);
}
