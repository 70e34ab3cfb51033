import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { build } from 'esbuild';
import { Log, LogLevel, Miniflare, type WorkerOptions } from 'miniflare';
import { z } from 'zod';
import { workerBuild } from '../../bin/worker-build.mjs';
import { readWorkerOptions, startEdge } from '../../cli/local/edge.ts';
import { hangUpOn, keepSignalsOurs, waitForChange } from '../../cli/local/keep-process-ours.ts';
import { ROOT } from '../../cli/local/origin-process.ts';
import { LOOPBACK } from '../../cli/local/ports.ts';
import type { SqlDatabase, SqlStatement } from '../../worker/platform/d1-database.ts';
import { processesNamed } from '../processes.ts';

/** Where the worker tells which statements ran since it was last asked, and runs others, uncounted. */
const STATEMENTS = '/statements';
/** The object `env` is the same for all handlers and Durable Objects of an isolate, so that its `DB` is replaced once. */
const ENTRY = `
import worker from './worker/index.ts';
export * from './worker/index.ts';

const ran = new Map();
const noted = (sql, answer) => {
  const all = ran.get(sql) ?? { sql, runs: 0, read: 0, written: 0 };
  ran.set(sql, all);
  all.runs += 1;
  all.read += answer.meta.rows_read;
  all.written += answer.meta.rows_written;
  return answer;
};
const counting = (db) => {
  const inner = new WeakMap();
  const wrap = (sql, statement) => {
    const wrapped = {
      bind: (...values) => wrap(sql, statement.bind(...values)),
      first: async (column) => {
        const row = noted(sql, await statement.all()).results[0] ?? null;
        return row === null || column === undefined ? row : row[column];
      },
      all: async () => noted(sql, await statement.all()),
      run: async () => noted(sql, await statement.run()),
    };
    inner.set(wrapped, { sql, statement });
    return wrapped;
  };
  return {
    counting: true,
    prepare: (sql) => wrap(sql, db.prepare(sql)),
    async batch(statements) {
      const all = statements.map((statement) => inner.get(statement));
      const answers = await db.batch(all.map(({ statement }) => statement));
      answers.forEach((answer, i) => noted(all[i].sql, answer));
      return answers;
    },
  };
};

const uncounted = async (db, batch) =>
  Response.json(await db.batch(batch.map(({ sql, values }) => db.prepare(sql).bind(...values))));

let db;
export default {
  async fetch(request, env, context) {
    if (env.DB.counting !== true) {
      db = env.DB;
      env.DB = counting(db);
    }
    if (new URL(request.url).pathname !== '${STATEMENTS}') return worker.fetch(request, env, context);
    if (request.method === 'POST') return uncounted(db, await request.json());
    const statements = [...ran.values()];
    ran.clear();
    return Response.json(statements);
  },
  scheduled: worker.scheduled,
};`;

const Statements = z.array(
  z.object({ sql: z.string(), runs: z.int(), read: z.int().min(0), written: z.int().min(0) }),
);
export type Statements = z.infer<typeof Statements>;

export interface CountingEdge {
  url: string;
  /** What runs here is not counted. */
  db: SqlDatabase;
  /** One run of the jobs of the cron trigger. */
  runSchedule(): Promise<void>;
  /** Statements of D1 since the last call, added up. */
  statements(): Promise<Statements>;
  /** Processor time of workerd, which has D1, KV and Durable Objects in it, ms. */
  cpuMs(): Promise<number>;
  stop(): Promise<void>;
}

/**
 * The edge in workerd, which counts the statements of its database.
 * @param stateFolder with the schema in it, which nobody else uses meanwhile; see {@link createState}.
 * @param bindings secrets and variables, over those of wrangler.toml.
 */
export async function startCountingEdge(
  stateFolder: string,
  bindings: Record<string, string>,
): Promise<CountingEdge> {
  const workerOptions = await readWorkerOptions();
  const { entryPoints: _, ...options } = workerBuild(ROOT);
  const bundled = await build({
    ...options,
    stdin: { contents: ENTRY, resolveDir: ROOT },
    write: false,
  });
  const modules = (contents: string) => [{ type: 'ESModule', path: 'index.js', contents }];
  const state = path.join(stateFolder, 'v3');
  const before = new Set(await processesNamed('workerd'));
  waitForChange();
  const miniflare = await keepSignalsOurs(
    () =>
      hangUpOn(
        () =>
          new Miniflare({
            host: LOOPBACK,
            cf: false,
            log: new Log(LogLevel.NONE),
            handleRuntimeStdio: (stdout: NodeJS.ReadableStream, stderr: NodeJS.ReadableStream) => {
              stdout.resume();
              stderr.resume();
            },
            kvPersist: path.join(state, 'kv'),
            d1Persist: path.join(state, 'd1'),
            r2Persist: path.join(state, 'r2'),
            durableObjectsPersist: path.join(state, 'do'),
            cachePersist: path.join(state, 'cache'),
            workers: [
              // Miniflare's own worker stands before the first one.
              { name: 'closed', modules: modules('export default {}') },
              {
                ...workerOptions,
                name: 'graft',
                bindings: { ...workerOptions.bindings, ...bindings },
                modules: modules(bundled.outputFiles[0]?.text ?? ''),
                unsafeDirectSockets: [{ host: LOOPBACK, port: 0 }],
              },
            ] as WorkerOptions[],
          }),
      ).made,
  );
  await miniflare.ready;
  const url = (await miniflare.unsafeGetDirectURL('graft')).href.replace(/\/$/, '');
  const pid = (await processesNamed('workerd')).find((id) => !before.has(id));
  if (pid === undefined) throw new Error('workerd is not to be found among the processes');
  return {
    url,
    db: databaseAt(url + STATEMENTS),
    async runSchedule() {
      const { outcome } = await (await miniflare.getWorker('graft')).scheduled();
      if (outcome !== 'ok') throw new Error(`the schedule ended with "${outcome}"`);
    },
    statements: async () => Statements.parse(await (await fetch(url + STATEMENTS)).json()),
    cpuMs: () => cpuOf(pid),
    stop: () => miniflare.dispose(),
  };
}

const Answers = z.array(z.object({ results: z.array(z.unknown()) }));
type Values = (string | number | null)[];

/** Miniflare's own access takes many times as long: each value waits for another thread. */
function databaseAt(url: string): SqlDatabase {
  const run = async (batch: { sql: string; values: Values }[]) => {
    // A kept connection may have been closed while this thread was busy for seconds, which shows too late.
    const headers = { connection: 'close' };
    const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(batch) });
    if (!response.ok) throw new Error(`a statement failed: ${await response.text()}`);
    return Answers.parse(await response.json());
  };
  const made = new WeakMap<SqlStatement, { sql: string; values: Values }>();
  const wrap = (sql: string, values: Values): SqlStatement => {
    const all = async <T>() => ({ results: ((await run([{ sql, values }]))[0]?.results ?? []) as T[] });
    const statement: SqlStatement = {
      bind: (...bound) => wrap(sql, bound),
      first: async <T>() => (await all<T>()).results[0] ?? null,
      all,
      run: all,
    };
    made.set(statement, { sql, values });
    return statement;
  };
  return {
    prepare: (sql) => wrap(sql, []),
    batch: (statements) => run(statements.map((statement) => made.get(statement) ?? { sql: '', values: [] })),
  };
}

/** Puts an empty database with the schema into the folder, as `graft edge` does. */
export async function createState(stateFolder: string, bindings: Record<string, string>): Promise<void> {
  const edge = await startEdge({ port: 0, stateFolder, bindings });
  await edge.stop();
}

/** Of all its threads, ms: `/proc/<pid>/stat` counts in steps of 10 ms. */
async function cpuOf(pid: number): Promise<number> {
  const tasks = `/proc/${pid}/task`;
  const times = (await readdir(tasks)).map(async (id) => {
    // A thread that has ended meanwhile takes its time with it.
    const text = await readFile(`${tasks}/${id}/schedstat`, 'utf8').catch(() => '0');
    return Number(text.split(' ')[0]);
  });
  return (await Promise.all(times)).reduce((sum, ns) => sum + ns, 0) / 1e6;
}
