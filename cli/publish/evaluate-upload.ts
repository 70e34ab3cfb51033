import { type Evaluation, ScoredRow } from '../../protocol/origin-wire.ts';
import { type ApiClient, type Retrying, callOperation } from '../api-client.ts';
import { addToConfusion, macroF1 } from '../../protocol/confusion.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { usageError } from '../flags.ts';
import { type JsonLines, readJsonLines } from '../read-json-lines.ts';

export { MAX_ROWS as MAX_EVAL_ROWS } from '../read-json-lines.ts';

export type EvalRows = JsonLines<ScoredRow>;

/**
 * Reads rows to score an adapter with: `{"prompt" | "user", "system"?, "expected"}`, or for a classifier
 * `{"prompt" | "text" | "messages", "label"}`; all of one kind.
 * @throws CliError (usage) with the lines that are wrong.
 */
export async function readEvalRows(file: string): Promise<EvalRows> {
  const what = `--eval ${file}`;
  const read = await readJsonLines({ file, what, schema: ScoredRow });
  const labelled = areLabelled(read);
  const other = read.rows.find(({ row }) => 'label' in row !== labelled);
  if (other !== undefined)
    throw usageError(
      `${what}, line ${other.line}: ${labelled ? 'no' : 'a'} "label". Give all rows one, or none.`,
    );
  return read;
}

/** Whether rows are for a classifier. */
const areLabelled = ({ rows: [first] }: EvalRows): boolean => first !== undefined && 'label' in first.row;

/** The server accepts MAX_EVALUATION_ROWS, 64; fewer answer in time, and the bar moves. */
const BATCH_ROWS = 16;
/** The server accepts 512 KB; the rest is for the request around the rows. */
const BATCH_BYTES = 500_000;
/** Failed rows in a message, and characters shown of each. */
const MAX_SHOWN = 3;
const MAX_TEXT = 60;
/** Characters shown before the first difference. */
const MARGIN = 20;

export interface FailedRow {
  readonly line: number;
  /** The answer or the label. */
  readonly expected: string;
  /** Where it differs from the expected answer, or the class; null = the origin did not report it. */
  readonly got: string | null;
}

interface Evaluated {
  readonly evaluation: Evaluation;
  /** Of a classifier's rows; null = they have expected answers. */
  readonly macroF1: number | null;
  readonly failed: readonly FailedRow[];
}

type Rows = EvalRows['rows'];

/** @returns the rows in order, in batches that fit a request. */
export function batches(rows: Rows): Rows[] {
  const found: Rows[number][][] = [];
  let bytes = Infinity;
  for (const one of rows) {
    const size = Buffer.byteLength(JSON.stringify(one.row)) + 1;
    const last = found.at(-1);
    if (last === undefined || last.length === BATCH_ROWS || bytes + size > BATCH_BYTES) {
      found.push([one]);
      bytes = size;
    } else {
      last.push(one);
      bytes += size;
    }
  }
  return found;
}

/**
 * Has the server answer every row with an uploaded file, before it becomes a version.
 * @param parent name whose live version the file is built on.
 * @throws CliError
 */
export async function evaluateUpload(params: {
  client: ApiClient;
  digest: string;
  parent: string | null;
  rows: EvalRows;
  onProgress?: (done: number) => void;
  retrying?: Retrying;
}): Promise<Evaluated> {
  const { client, digest, parent, rows, onProgress, retrying = {} } = params;
  const failed: FailedRow[] = [];
  let done = 0;
  let nats = 0;
  let tokens = 0;
  const classes: [label: string, got: string][] = [];
  onProgress?.(done);
  for (const batch of batches(rows.rows)) {
    const body = { digest, ...(parent === null ? {} : { parent }), rows: batch.map(({ row }) => row) };
    const first = batch[0]?.line ?? 0;
    const what = `evaluate the rows from line ${first}`;
    const answer = await callOperation(client, what, 'POST /admin/evaluate', { body, retrying });
    if (answer.rows.length !== batch.length)
      throw new CliError({
        message: `${what}: the server answered ${answer.rows.length} of ${batch.length} rows.`,
      });
    for (const [index, score] of answer.rows.entries()) {
      const { line, row } = batch[index] as Rows[number];
      if ('error' in score) throw unscorable(line, score);
      const { exact, nll, tokens: count, got = null } = score;
      const expected = 'label' in row ? row.label : row.expected;
      if ('label' in row) classes.push([expected, exact ? expected : (got ?? '')]);
      if (!exact) failed.push({ line, expected, got });
      nats += nll * count;
      tokens += count;
    }
    onProgress?.((done += batch.length));
  }
  const exact = (rows.rows.length - failed.length) / rows.rows.length;
  return {
    evaluation: { rows: rows.rows.length, exact_match: exact, mean_nll: nats / tokens, sha256: rows.sha256 },
    macroF1: areLabelled(rows) ? macroF1(addToConfusion([], classes)) : null,
    failed,
  };
}

const unscorable = (
  line: number,
  { error, code = 'row_invalid' }: { error: string; code?: string | undefined },
) =>
  new CliError({
    message: `Nothing was published: the row of line ${line} cannot be evaluated. ${error}`,
    exitCode: EXIT.usage,
    code,
  });

/**
 * @param f1 macro F1 of a classifier; null = it is none.
 * @returns such as `score 0.92 (46 of 50 rows answered exactly), mean NLL 0.314 nats a token`.
 */
export function scoreText({ rows, exact_match, mean_nll }: Evaluation, f1: number | null): string {
  const exact = Math.round(exact_match * rows);
  const count = `score ${share(exact_match)} (${exact} of ${rows} rows`;
  const nll = `mean NLL ${mean_nll.toFixed(3)} nats`;
  return f1 === null
    ? `${count} answered exactly), ${nll} a token`
    : `${count} classified right), macro F1 ${share(f1)}, ${nll} a row`;
}

/** Truncated, not rounded: 0.799 is not 0.80 if that was required. */
const share = (value: number): string => (Math.floor(value * 1_000 + 1e-9) / 1_000).toString();

/** @returns the first failed rows: the expected answer, and below it the actual one. */
export function failedText(failed: readonly FailedRow[], { labelled }: { labelled: boolean }): string {
  const shown = failed.slice(0, MAX_SHOWN).flatMap(({ line, expected, got }) => {
    const from = got === null ? 0 : partingOf(expected, got);
    const label = `  line ${line}: expected `;
    return [
      label + quoted(expected, from),
      ...(got === null
        ? []
        : [`${'got '.padStart(label.length)}${labelled ? quoted(got, from) : gotText(expected, got, from)}`]),
    ];
  });
  const more = failed.length - MAX_SHOWN;
  return ['Different from expected:', ...shown, ...(more > 0 ? [`  and ${more} more`] : [])].join('\n');
}

/** @returns where to start so that the difference is visible: some characters before it. */
function partingOf(expected: string, got: string): number {
  let at = 0;
  while (at < got.length && got[at] === expected[at]) at += 1;
  return at < MAX_TEXT - MARGIN ? 0 : at - MARGIN;
}

/** A prefix of the expected answer ended there; anything else continued differently. */
const gotText = (expected: string, got: string, from: number): string =>
  expected.startsWith(got) ? `${quoted(got, from)} (ended)` : quoted(`${got}…`, from);

function quoted(text: string, from: number): string {
  const part = text.slice(from, from + MAX_TEXT);
  const whole = `${from > 0 ? '…' : ''}${part}${from + MAX_TEXT < text.length ? '…' : ''}`;
  return JSON.stringify(whole);
}

/** @throws CliError `score_too_low` (refused) */
export function refuseLowScore(
  { evaluation, macroF1: f1, failed }: Evaluated,
  minScore: number | null,
): void {
  if (minScore === null || evaluation.exact_match >= minScore) return;
  throw new CliError({
    message:
      `Nothing was published: ${scoreText(evaluation, f1)}; --min-score is ${minScore}. ` +
      failedText(failed, { labelled: f1 !== null }),
    exitCode: EXIT.refused,
    code: 'score_too_low',
  });
}
