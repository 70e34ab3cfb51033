/** Scores versions, or an uploaded file, on the kept evaluations of a name, and shows the scores. */
import type {
  EvaluationList,
  EvaluationScore,
  EvaluationView,
  ScoredEvaluation,
  ScoreEvaluation,
  VersionScore,
} from '../../protocol/admin-api/evaluations.ts';
import type { ConfusionTable } from '../../protocol/confusion.ts';
import { shareWords } from '../../protocol/evaluation-scores.ts';
import { type ApiClient, callOperation, type Retrying } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { winRate } from '../compare/statistics/win-rate.ts';
import { plainTable, type Output } from '../output.ts';

/** @returns null when the name does not exist, or belongs to somebody else. @throws CliError */
export async function lookUpEvaluations(client: ApiClient, name: string): Promise<EvaluationList | null> {
  try {
    const what = `list the evaluations of ${name}`;
    return await callOperation(client, what, 'GET /admin/evaluations', { query: { name } });
  } catch (error) {
    if (error instanceof CliError && error.exitCode === EXIT.notFound) return null;
    throw error;
  }
}

/** What is scored: a version, or an uploaded file. */
export type Scored = Pick<ScoreEvaluation, 'adapter' | 'digest' | 'parent'>;

/**
 * Scores all rows that are not scored yet, some a request, so that an interrupted command continues.
 * @param onProgress how many rows are scored. @throws CliError
 */
export async function scoreEvaluation(params: {
  client: ApiClient;
  name: string;
  label: string;
  scored: Scored;
  /** Begin with the first row. */
  again?: boolean;
  onProgress?: (done: number, total: number) => void;
  retrying?: Retrying;
}): Promise<ScoredEvaluation> {
  const { client, name, label, scored, onProgress, retrying = {} } = params;
  const what = `score ${scored.adapter ?? name} on ${label}`;
  for (let again = params.again === true; ; again = false) {
    const body = { name, label, ...scored, ...(again ? { again } : {}) };
    const score = await callOperation(client, what, 'POST /admin/evaluations/score', { body, retrying });
    onProgress?.(score.scored, score.rows);
    if (score.scored === score.rows) return score;
  }
}

/**
 * Scores each of the adapters on each of the evaluations, behind a progress bar.
 * @returns the scores, adapter by adapter. @throws CliError
 */
export async function scoreAll(params: {
  client: ApiClient;
  output: Output;
  name: string;
  evaluations: readonly Pick<EvaluationView, 'label' | 'rows'>[];
  scored: readonly Scored[];
  again?: boolean;
  signal?: AbortSignal;
}): Promise<ScoredEvaluation[]> {
  const { client, output, name, evaluations, scored, again = false, signal } = params;
  const total = scored.length * evaluations.reduce((sum, { rows }) => sum + rows, 0);
  const bar = output.progress('scoring', 'rows');
  const onWait: Retrying['onWait'] = (ms, reason) => bar.end(`${reason}; trying again in ${ms / 1_000} s`);
  const scores: ScoredEvaluation[] = [];
  let before = 0;
  bar.update(0, total);
  try {
    for (const one of scored)
      for (const { label, rows } of evaluations) {
        const onProgress = (done: number) => bar.update(before + done, total);
        const retrying = { signal, onWait };
        scores.push(await scoreEvaluation({ client, name, label, scored: one, again, onProgress, retrying }));
        before += rows;
      }
  } finally {
    bar.end();
  }
  return scores;
}

const percent = (share: number): string => (100 * share).toFixed(0);
const signed = (share: number): string => `${share < 0 ? '−' : '+'}${Math.abs(100 * share).toFixed(1)}`;

/** The share's 95 % interval. */
function intervalText({ exact, scored, rows }: EvaluationScore): string {
  const rate = scored < rows ? null : winRate({ wins: exact, ties: 0, losses: rows - exact });
  return rate === null ? '-' : `${percent(rate.low)} to ${percent(rate.high)} %`;
}

/** By how much the share differs from the live version's on the same rows, with its 95 % interval. */
function againstLiveText({ rows, against_live: pairs }: VersionScore, isLive: boolean): string {
  if (isLive || pairs === null) return '-';
  const { better, worse } = pairs;
  const rate = winRate({ wins: better, ties: rows - better - worse, losses: worse });
  if (rate === null) return '-';
  const difference = (half: number): string => signed(2 * half - 1);
  return `${difference(rate.estimate)} (${difference(rate.low)} to ${difference(rate.high)})`;
}

/**
 * With columns of judges, and of classifiers' F1, if there are some.
 * @param stateOf in words, by version.
 */
export function scoreTable({ live, scores }: EvaluationList, stateOf: (version: number) => string): string {
  const judged = scores.some(({ judge }) => judge !== null);
  const labelled = scores.some((one) => one.labelled);
  return plainTable(
    [
      ...['VERSION', 'STATE', 'EVALUATION'],
      ...(judged ? ['JUDGE'] : []),
      labelled ? 'RIGHT' : judged ? 'EXACT OR ACCEPTED' : 'EXACT',
      ...['95 %', 'AGAINST LIVE, POINTS', 'NLL'],
      ...(labelled ? ['MACRO F1'] : []),
    ],
    scores.map((score) => [
      String(score.version),
      stateOf(score.version),
      score.label,
      ...(judged ? [score.judge ?? '-'] : []),
      shareWords(score),
      intervalText(score),
      againstLiveText(score, score.version === live),
      score.mean_nll === null ? '-' : score.mean_nll.toFixed(3),
      ...(labelled ? [score.macro_f1 === null ? '-' : score.macro_f1.toFixed(3)] : []),
    ]),
  );
}

/** How many rows of each label got which class; the labels stand at the left. */
export const confusionText = ({ labels, counts }: ConfusionTable): string =>
  plainTable(
    ['LABEL', ...labels],
    labels.map((label, at) => [label, ...(counts[at] ?? []).map(String)]),
  );
