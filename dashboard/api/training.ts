/** Files of rows and fine-tuning jobs: `/v1/files` and `/v1/fine_tuning/jobs`, as the tenant of the admin key. */
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { FILE_PURPOSE, FileObject } from '../../protocol/files.ts';
import {
  JOB_PAGE,
  JobCheckpointPage,
  JobEventPage,
  JobPage,
  JobView,
  type JobEventView,
} from '../../protocol/fine-tuning.ts';
import type { TrainingMethod } from '../../protocol/training.ts';
import { MAX_FILE_ROWS, MAX_ROWS_FILE_BYTES } from '../../protocol/training-jobs.ts';
import type { ParsedRows, RowFormat, RowProblem, RowsHead } from '../../protocol/training-rows.ts';
import type { Problem } from '../model/problem.ts';
import { withPage } from '../model/training-jobs.ts';
import type { Client } from './client.ts';

const JOBS = '/v1/fine_tuning/jobs';

/** What a file has, as `graft train` reads it. */
export interface CheckedRows {
  readonly file: File;
  readonly format: RowFormat;
  /** That its rows are for. */
  readonly method: TrainingMethod;
  /** Rows without a problem. */
  readonly good: number;
  /** The first of them. */
  readonly problems: readonly RowProblem[];
  readonly problemCount: number;
  /** The classification head that they train; null = they have answers. */
  readonly head: RowsHead | null;
}

/** Rows that are read before the page may draw again. */
const ROWS_AT_ONCE = 2_000;

/**
 * Reads a file with the checks of `graft train`. Nothing is sent.
 * @param wanted null = the method that its first good row is for.
 */
export async function checkRows(file: File, wanted: TrainingMethod | null): Promise<CheckedRows> {
  const format: RowFormat = /\.csv$/i.test(file.name) ? 'csv' : 'jsonl';
  const whole = (problem: string): CheckedRows => ({
    ...{ file, format, method: wanted ?? 'sft', good: 0 },
    ...{ problems: [{ line: 1, problem }], problemCount: 1, head: null },
  });
  if (file.size > MAX_ROWS_FILE_BYTES)
    return whole(`The file has ${file.size} bytes. The most is ${MAX_ROWS_FILE_BYTES}. Split it.`);
  const bytes = await file.arrayBuffer().catch(() => null);
  if (bytes === null) return whole('The file cannot be read. Choose it again.');
  const { headOfRows, parseRowsInTurns } = await import('../../protocol/training-rows.ts');
  const read = async (method: TrainingMethod): Promise<ParsedRows> => {
    const turns = parseRowsInTurns({ bytes: new Uint8Array(bytes), format, method }, ROWS_AT_ONCE);
    for (let turn = turns.next(); ; turn = turns.next()) {
      if (turn.done === true) return turn.value;
      await new Promise((resolve) => setTimeout(resolve));
    }
  };
  let method: TrainingMethod = wanted ?? 'sft';
  let parsed = await read(method);
  if (wanted === null && parsed.rows.length === 0 && parsed.problemCount > 0) {
    const pairs = await read('dpo');
    if (pairs.rows.length > 0) [method, parsed] = ['dpo', pairs];
  }
  const { rows, problems, problemCount } = parsed;
  if (rows.length === 0 && problemCount === 0) return { ...whole('The file has no rows.'), method };
  if (rows.length > MAX_FILE_ROWS)
    return { ...whole(`The file has more than ${MAX_FILE_ROWS} rows. Split it.`), method };
  const counted = { file, format, method, good: rows.length, problems, problemCount, head: null };
  if (problemCount > 0) return counted;
  const head = headOfRows(rows);
  return head.ok ? { ...counted, head: head.value } : { ...counted, problems: [head.error], problemCount: 1 };
}

/** Jobs take JSON Lines: rows of CSV are written so. @returns the file's id. */
export async function sendRows(
  client: Client,
  { file, format, method }: CheckedRows,
): Promise<Result<string, Problem>> {
  let rows: Blob = file;
  let { name } = file;
  if (format === 'csv') {
    const { csvAsJsonLines } = await import('../../protocol/training-rows.ts');
    const bytes = new Uint8Array(await file.arrayBuffer());
    rows = new Blob([...csvAsJsonLines(bytes, method)]);
    name = name.replace(/\.csv$/i, '.jsonl');
  }
  const form = new FormData();
  form.set('purpose', FILE_PURPOSE);
  form.set('file', rows, name);
  const sent = await client.post('/v1/files', form, FileObject);
  return sent.ok ? ok(sent.value.id) : sent;
}

export const createJob = (client: Client, request: unknown): Promise<Result<JobView, Problem>> =>
  client.post(JOBS, request, JobView);

/** @param after id of the last one of the page before. */
export function listJobs(
  client: Client,
  after: string | null = null,
  limit: number = JOB_PAGE.most,
): Promise<Result<JobPage, Problem>> {
  return client.get(`${JOBS}?${pageQuery(after, limit)}`, JobPage);
}

const pageQuery = (after: string | null, limit: number = JOB_PAGE.most): string =>
  new URLSearchParams({ limit: String(limit), ...(after === null ? {} : { after }) }).toString();

export const stepJob = (
  client: Client,
  id: string,
  step: 'cancel' | 'pause' | 'resume',
): Promise<Result<JobView, Problem>> => client.post(`${pathOf(id)}/${step}`, {}, JobView);

/** What can be asked of a job, newest first: its result, then earlier ones. A page has all. */
export const listCheckpoints = (client: Client, id: string): Promise<Result<JobCheckpointPage, Problem>> =>
  client.get(`${pathOf(id)}/checkpoints?${pageQuery(null)}`, JobCheckpointPage);

const pathOf = (id: string): string => `${JOBS}/${encodeURIComponent(id)}`;

export interface JobStory {
  readonly job: JobView;
  /** Newest last. */
  readonly events: readonly JobEventView[];
}

/** The job, and what has happened since. @param known events that were read before, newest last. */
export async function readStory(
  client: Client,
  id: string,
  known: readonly JobEventView[],
): Promise<Result<JobStory, Problem>> {
  // Before its events, so that a job that has ended has all of them.
  const job = await client.get(pathOf(id), JobView);
  if (!job.ok) return job;
  const newest = known.at(-1)?.id ?? null;
  let events: readonly JobEventView[] = known;
  for (let after: string | null = null; ;) {
    const page: Result<JobEventPage, Problem> = await client.get(
      `${pathOf(id)}/events?${pageQuery(after)}`,
      JobEventPage,
    );
    if (!page.ok) return err(page.error);
    const { data, has_more: more, last_id: last }: JobEventPage = page.value;
    events = withPage(events, data);
    if (!more || last === null || data.some((event) => event.id === newest))
      return ok({ job: job.value, events });
    after = last;
  }
}
