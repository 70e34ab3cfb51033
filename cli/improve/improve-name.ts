/** From decisions to an experiment: rows, a version that continues the live one, and its test against it. */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { ExperimentView } from '../../protocol/admin-api/experiments.ts';
import type { ImprovementRows } from '../../protocol/admin-api/improvements.ts';
import type { VersionView } from '../../protocol/admin-api/versions.ts';
import { isLive } from '../../protocol/experiment.ts';
import { type ApiClient, callOperation, callPages } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { bytesSha256, usableCacheFolder } from '../local/find-base.ts';
import { writePrivateFile } from '../local/private-files.ts';
import type { Output } from '../output.ts';
import { type Trained, trainAdapter, type TrainWish, versionToContinue } from '../train/train-adapter.ts';
import { newRows, promptsOf, rowsFile, rowsText } from './rows-text.ts';

/** New rows from which a training is worth its time. */
export const LEAST_ROWS = 20;

export interface ImproveWish extends Pick<
  TrainWish,
  'request' | 'validation' | 'base' | 'weights' | 'provider' | 'threads' | 'why'
> {
  readonly name: string;
  /** Those to whom the name is granted may use the result. */
  readonly madeFromPrompts: boolean;
  /** File to write the rows to, and nothing else; null = train. */
  readonly out: string | null;
}

export interface ImproveParams {
  readonly wish: ImproveWish;
  readonly client: ApiClient;
  readonly output: Output;
  readonly signal: AbortSignal;
  /** Arguments for Node. */
  readonly program: readonly string[];
  readonly env: Record<string, string | undefined>;
  /** The same command, for messages. */
  readonly again: string;
  /** Whether to train now, asked after the rows are shown. @throws CliError if it cannot be asked. */
  readonly confirm: (question: string) => Promise<boolean>;
  /** Whether others, who hold grants, may use it. @throws CliError if it cannot be asked. */
  readonly confirmHolders: (question: string) => Promise<boolean>;
  /** Proposes the experiment of the version against the live one. @returns what it says. */
  readonly propose: (version: VersionView) => Promise<{ view: ExperimentView; text: string }>;
}

export interface Prepared {
  rows: ImprovementRows;
  /** Rows that the live version was not made from. */
  fresh: number;
  live: VersionView;
}

/** What can be said before anything is trained. @throws CliError `version_conflict` while an experiment decides. */
export async function prepare({ wish, client, output }: ImproveParams): Promise<Prepared> {
  const { name, request, out } = wish;
  const live = await versionToContinue(client, name);
  const running = (await experimentsOf(client, name)).find(
    ({ document }) => isLive(document) || document.status === 'draft',
  );
  if (running !== undefined && out === null)
    throw new CliError({
      message:
        `'${name}' has the experiment ${running.id}, which is ${running.document.status}. Its result decides first: ` +
        `graft experiment status ${name}`,
      exitCode: EXIT.refused,
      code: 'version_conflict',
    });
  const body = { name, method: request.method };
  const rows = await callOperation(client, `improve ${name}`, 'POST /admin/improvements', { body });
  const fresh = newRows(rows, live.training);
  output.note(rowsText(rows, fresh));
  return { rows, fresh, live };
}

/** @throws CliError `too_few_rows` */
export function checkEnough({ fresh, live }: Prepared): void {
  if (fresh >= LEAST_ROWS) return;
  throw new CliError({
    message:
      `${fresh} new ${fresh === 1 ? 'row' : 'rows'} since ${live.name}@${live.version}: at least ${LEAST_ROWS} are ` +
      'needed. Report which answers users prefer (POST /v1/preferences) with a key that has --keep-prompts and ' +
      '--improve, or keep judged pairs (graft experiment create … --judge … --keep-pairs 200).',
    exitCode: EXIT.refused,
    code: 'too_few_rows',
  });
}

export interface Improved {
  trained: Trained;
  experiment: ExperimentView;
  text: string;
}

/** Trains on prepared rows, stages, and proposes. @returns null when it was not confirmed. */
export async function improve(params: ImproveParams, prepared: Prepared): Promise<Improved | null> {
  const { wish, client, output, signal, program, env, again } = params;
  const { rows, live } = prepared;
  const { name } = wish;
  const on = `${live.name}@${live.version}`;
  const question = `Train the next version of ${name} on these ${rows.rows.length} rows, on top of ${on}?`;
  if (!(await params.confirm(question))) return null;
  const holder = await holderOf(client, name);
  const granted =
    `The result is made from prompts of users, and ${holder === '*' ? 'everybody' : `'${holder}'`} may use ` +
    `'${name}' by a grant. Let them use what is made of these prompts?`;
  if (holder !== null && !wish.madeFromPrompts && !(await params.confirmHolders(granted))) return null;
  const text = rowsFile(rows);
  const file = path.join(await usableCacheFolder(env), 'improve', `${bytesSha256(text).slice(0, 24)}.jsonl`);
  await writePrivateFile(file, text);
  let trained: Trained;
  try {
    trained = await trainAdapter({
      wish: {
        ...wish,
        ...{ rows: file, out: null, parent: null, start: 'either', prompts: promptsOf(rows) },
        request: { ...wish.request, continues: true },
        // Asked above.
        madeFromPrompts: holder !== null,
      },
      ...{ client, output, signal, program, env },
      again: () => again,
    });
  } finally {
    // Prompts stay on this machine no longer than needed; the same decisions make the same file again.
    await rm(file, { force: true });
  }
  const version = trained.published?.version;
  if (version === undefined) throw new Error('nothing was published');
  for (const { id, document } of await experimentsOf(client, name))
    if (document.status === 'decided') {
      const call = { params: { id }, body: { why: `${name}@${version.version} is next` } };
      await callOperation(client, `archive ${id}`, 'POST /admin/experiments/:id/archive', call);
    }
  const { view, text: said } = await params.propose(version);
  return { trained, experiment: view, text: said };
}

/** @returns a tenant that was granted the name, or `*`; null = nobody. */
async function holderOf(client: ApiClient, name: string): Promise<string | null> {
  const given = await callPages(client, 'list the grants', 'GET /admin/grants', {}, ({ grants }) => grants);
  const covers = (scope: string): boolean =>
    scope === '**' || scope === name || (scope.endsWith('/**') && `${name}/`.startsWith(scope.slice(0, -2)));
  return given.find(({ scope }) => covers(scope))?.tenant ?? null;
}

/** Those that are not archived. */
async function experimentsOf(client: ApiClient, name: string): Promise<ExperimentView[]> {
  const all = await callPages(
    client,
    'list the experiments',
    'GET /admin/experiments',
    { name },
    (page) => page.experiments,
  );
  return all.filter(({ document }) => document.status !== 'archived');
}
