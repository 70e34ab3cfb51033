import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Log, LogLevel, Miniflare, type WorkerOptions } from 'miniflare';
import { parse as parseToml } from 'smol-toml';
import { z } from 'zod';
import { workerBuild } from '../../bin/worker-build.mjs';
import { CliError } from '../cli-error.ts';
import { stripControlChars } from '../output.ts';
import { hangUpOn, keepSignalsOurs, listenForWorkerd, waitForChange } from './keep-process-ours.ts';
import { builtFile, fromSources, ROOT } from './origin-process.ts';
import { LOOPBACK } from './ports.ts';
import { makePrivateFolder, makePrivately } from './private-files.ts';
import { MIGRATIONS, migrationFiles, neededSchema, otherSchema, SCHEMA_QUERY } from './schema.ts';

type D1 = Awaited<ReturnType<Miniflare['getD1Database']>>;

export interface Edge {
  readonly url: string;
  /** The worker's storage bindings. */
  readonly miniflare: Pick<
    Miniflare,
    'getKVNamespace' | 'getD1Database' | 'getR2Bucket' | 'getDurableObjectNamespace'
  >;
  /** Resolves with a sentence when workerd ends unexpectedly. */
  readonly failed: Promise<string>;
  /**
   * What cron triggers do in production; Miniflare does not fire them. @throws Error when the worker's handler
   * fails.
   */
  runSchedule(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Starts the worker in workerd by Miniflare itself: `wrangler dev` puts a proxy in front, which costs 2 ms a
 * request. The options are those of wrangler.toml; the state is where `wrangler … --local` looks.
 * @param stateFolder `.wrangler/state` of the folder whose `wrangler` commands should see it.
 * @param bindings secrets and variables, over those of wrangler.toml.
 * @param page folder of the built dashboard; default: none.
 * @param r2Bucket bound as BLOBS, so that adapters' bytes go there; to KV unless given.
 * @param usageDatabase bound as DB_USAGE, so that usage and traffic lie there; in DB unless given.
 */
export async function startEdge(params: {
  port: number;
  /** Address to listen on; default: loopback. */
  host?: string;
  stateFolder: string;
  bindings: Record<string, string>;
  r2Bucket?: string;
  usageDatabase?: string;
  page?: string;
  onLog?: (line: string) => void;
}): Promise<Edge> {
  const workerOptions = await readWorkerOptions();
  const state = path.join(params.stateFolder, 'v3');
  const log = new (class extends Log {
    override log(message: string) {
      params.onLog?.(message);
    }
  })(LogLevel.WARN);
  const { usageDatabase } = params;
  const d1Databases = {
    ...workerOptions.d1Databases,
    ...(usageDatabase === undefined ? {} : { DB_USAGE: { id: usageDatabase } }),
  };
  const worker = {
    ...{ ...workerOptions, d1Databases },
    bindings: { ...workerOptions.bindings, ...params.bindings },
    ...(params.r2Bucket === undefined ? {} : { r2Buckets: { BLOBS: params.r2Bucket } }),
    serviceBindings: {
      CALL_OUT: callOut({ loopback: params.bindings['LOOPBACK_CALLBACKS'] === 'on' }),
      ...(params.page === undefined ? {} : { ASSETS: { disk: { path: params.page, writable: false } } }),
    },
  } as WorkerOptions;
  const { workers, door, graft } = await edgeWorkers({
    ...{ options: worker, port: params.port },
    ...(params.host === undefined ? {} : { host: params.host }),
  });
  const options = {
    // Of the socket of Miniflare's own worker, which takes any free port.
    host: LOOPBACK,
    // Nothing reads `request.cf`; without this, Miniflare fetches it from the network at every start.
    cf: false,
    log,
    handleRuntimeStdio: (stdout: NodeJS.ReadableStream, stderr: NodeJS.ReadableStream) => {
      for (const stream of [stdout, stderr]) readWorkerdLog(stream, (line) => params.onLog?.(line));
    },
    kvPersist: path.join(state, 'kv'),
    d1Persist: path.join(state, 'd1'),
    r2Persist: path.join(state, 'r2'),
    durableObjectsPersist: path.join(state, 'do'),
    cachePersist: path.join(state, 'cache'),
    workers,
  };
  waitForChange();
  await makePrivateFolder(params.stateFolder, { contents: true });
  const found = listenForWorkerd();
  // workerd inherits this umask.
  const { made: miniflare, servers } = await makePrivately(async () => {
    const started = await keepSignalsOurs(() => hangUpOn(() => new Miniflare(options)));
    // Failures are handled below.
    await started.made.ready.catch(() => undefined);
    return started;
  });
  const workerd = found();
  let stopping = false;
  const stop = async () => {
    stopping = true;
    workerd?.letGo();
    await miniflare.dispose();
  };
  try {
    await miniflare.ready;
    if (servers.length === 0) throw new Error('this version of Miniflare opens an unguarded server');
    const address = await miniflare.unsafeGetDirectURL(door);
    const failed = new Promise<string>((resolve) => {
      workerd?.process.once('exit', (code, signal) => {
        if (!stopping) resolve(`the edge (workerd) ended with ${signal ?? `code ${code}`}`);
      });
    });
    const stores: Edge['miniflare'] = {
      getKVNamespace: (binding) => miniflare.getKVNamespace(binding, graft),
      getD1Database: (binding) => miniflare.getD1Database(binding, graft),
      getR2Bucket: (binding) => miniflare.getR2Bucket(binding, graft),
      getDurableObjectNamespace: (binding) => miniflare.getDurableObjectNamespace(binding, graft),
    };
    for (const binding of Object.keys(d1Databases)) await migrate(await stores.getD1Database(binding), state);
    const runSchedule = async () => {
      const { outcome } = await (await miniflare.getWorker(graft)).scheduled();
      if (outcome !== 'ok') throw new Error(`the worker's schedule ended with "${outcome}"`);
    };
    return { url: address.href.replace(/\/$/, ''), miniflare: stores, failed, runSchedule, stop };
  } catch (error) {
    await stop().catch(() => undefined);
    if (error instanceof CliError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new CliError({ message: `The edge did not start: ${reason}`, code: 'edge_failed' });
  }
}

/** What this edge needs of wrangler.toml's top level. */
const WranglerToml = z.object({
  compatibility_date: z.string(),
  compatibility_flags: z.array(z.string()),
  vars: z.record(z.string(), z.string()),
  kv_namespaces: z.array(z.object({ binding: z.string(), id: z.string() })),
  d1_databases: z.array(z.object({ binding: z.string(), database_id: z.string() })),
  durable_objects: z.object({
    bindings: z.array(z.object({ name: z.string(), class_name: z.string() })),
  }),
  analytics_engine_datasets: z.array(z.object({ binding: z.string(), dataset: z.string() })),
});

/**
 * The worker's options as wrangler makes them of wrangler.toml (test/cli/local/worker-options.test.ts compares them):
 * loading wrangler takes longer than all else of a start. Without assets: Cloudflare's server of them would stand before
 * every request here.
 */
export async function readWorkerOptions() {
  const config = WranglerToml.parse(parseToml(await readFile(path.join(ROOT, 'wrangler.toml'), 'utf8')));
  const byBinding = <T extends { binding: string }, V>(list: T[], value: (one: T) => V): Record<string, V> =>
    Object.fromEntries(list.map((one) => [one.binding, value(one)]));
  return {
    compatibilityDate: config.compatibility_date,
    compatibilityFlags: config.compatibility_flags,
    bindings: config.vars,
    kvNamespaces: byBinding(config.kv_namespaces, ({ id }) => ({ id })),
    d1Databases: byBinding(config.d1_databases, ({ database_id: id }) => ({ id })),
    durableObjects: Object.fromEntries(
      config.durable_objects.bindings.map(({ name, class_name: className }) => [
        name,
        { className, useSQLite: true },
      ]),
    ),
    analyticsEngineDatasets: byBinding(config.analytics_engine_datasets, ({ dataset }) => ({ dataset })),
  };
}

/**
 * Applies what of `migrations/` has not been applied, with wrangler's own table, so that both agree.
 * @param state where the database lies. @throws CliError
 */
async function migrate(database: D1, state: string): Promise<void> {
  await database
    .prepare(
      `CREATE TABLE IF NOT EXISTS d1_migrations(
         id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE,
         applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)`,
    )
    .run();
  const { results } = await database.prepare('SELECT name FROM d1_migrations').all<{ name: string }>();
  const applied = new Set(results.map((row) => row.name));
  if (applied.size > 0) {
    const there = "SELECT name FROM sqlite_master WHERE name = 'schema_hash'";
    const hasHash = (await database.prepare(there).first()) !== null;
    const found = hasHash ? await database.prepare(SCHEMA_QUERY).first<string>('hash') : null;
    const needed = await neededSchema();
    if (found !== needed)
      throw otherSchema({
        ...{ where: `The registry in ${state}`, found, needed },
        afresh: `rm -r ${state}`,
      });
  }
  for (const file of (await migrationFiles()).filter((candidate) => !applied.has(candidate))) {
    const statements = splitSql(await readFile(path.join(MIGRATIONS, file), 'utf8'));
    await database.batch([
      ...statements.map((statement) => database.prepare(statement)),
      database.prepare('INSERT INTO d1_migrations (name) VALUES (?)').bind(file),
    ]);
  }
}

/** @param sql without triggers, and without `--` or a `;` at the end of a line in its texts. @returns its statements. */
export const splitSql = (sql: string): string[] =>
  sql
    .replace(/--.*$/gm, '')
    .split(/;\s*$/m)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== '');

/**
 * Stack addresses in workerd, 2 KB for each request that it refuses before the worker sees it. Without symbols
 * they are useless; the line before them names the error.
 */
const ADDRESSES = /^stack: .*\b[0-9a-f]{5,}\s*$/i;

/** Reads workerd's output line by line, without address stacks and empty lines. */
function readWorkerdLog(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  createInterface({ input: stream, crlfDelay: Infinity }).on('line', (line) => {
    if (line.trim() !== '' && !ADDRESSES.test(line)) onLine(stripControlChars(line));
  });
}

/** Bytes of names that nobody else on the machine may guess. */
const SECRET_BYTES = 16;

/** The worker as one module: bundled from a checkout's sources, or as packaged. */
async function bundleWorker(): Promise<string> {
  if (!fromSources()) return readFile(builtFile('worker/index.js'), 'utf8');
  const { build } = await import('esbuild');
  const result = await build({
    ...workerBuild(ROOT),
    write: false,
    sourcemap: 'inline',
    logLevel: 'silent',
  });
  return result.outputFiles[0]?.text ?? '';
}

const script = (contents: string): WorkerOptions['modules'] => [
  { type: 'ESModule', path: 'index.js', contents },
];

/** Answers at Miniflare's own socket, which anyone may find. */
const CLOSED = 'export default { fetch: () => new Response(null, { status: 403 }) };';
/**
 * Answers at the edge's socket. It has no other handler, because such a socket also accepts a connection that
 * can call each handler of its worker, including `scheduled`. `cf` is set by the client there (`MF-CF-Blob`),
 * valid or not.
 */
const DOOR = `export default {
  fetch(request, env) {
    let plain;
    try {
      plain = new Request(request, { cf: {} });
    } catch {
      return new Response(null, { status: 400 });
    }
    return env.GRAFT.fetch(plain);
  },
};`;

/**
 * Outbound access to addresses given by tenants: public ones only. workerd resolves a name, drops addresses
 * that are not allowed, and connects to one of the rest, so a second answer of a name server has no effect.
 * @param params.loopback also allow this machine itself.
 */
export const callOut = ({ loopback }: { loopback: boolean }) => ({
  network: { allow: ['public', ...(loopback ? ['local'] : [])], tlsOptions: { trustBrowserCas: true } },
});

interface EdgeWorkers {
  workers: WorkerOptions[];
  /** Name of the worker behind the edge's socket. */
  door: string;
  /** Name of the edge's worker. */
  graft: string;
}

/**
 * The workers of Miniflare. Miniflare puts a worker of its own before the first one, which obeys client
 * headers: `MF-Original-URL` sets another URL, `MF-Route-Override` another worker by name. So the first is a
 * closed one, the others have secret names, and the edge's socket bypasses it.
 * @param options of the edge's worker, except its modules. @param port of the edge's socket; 0 = any free one.
 * @param host of it; default: loopback.
 */
async function edgeWorkers(params: {
  options: WorkerOptions;
  port: number;
  host?: string;
}): Promise<EdgeWorkers> {
  const { options, port, host = LOOPBACK } = params;
  const { compatibilityDate } = options;
  const common = compatibilityDate === undefined ? {} : { compatibilityDate };
  const secret = randomBytes(SECRET_BYTES).toString('hex');
  const door = `door-${secret}`;
  const graft = `graft-${secret}`;
  const workers = [
    { ...common, name: 'closed', modules: script(CLOSED) },
    {
      ...common,
      name: door,
      modules: script(DOOR),
      serviceBindings: { GRAFT: graft },
      unsafeDirectSockets: [{ host, port }],
    },
    {
      ...options,
      name: graft,
      // Sent in a header of its requests to origins, instead of the name.
      zone: 'graft.example.com',
      modules: script(await bundleWorker()),
      durableObjects: keepPlaces(options.durableObjects),
    },
  ] as WorkerOptions[];
  return { workers, door, graft };
}

/** Objects are stored under their worker's name and class; a worker without a name created them. */
const keepPlaces = (objects: WorkerOptions['durableObjects'] = {}): WorkerOptions['durableObjects'] =>
  Object.fromEntries(
    Object.entries(objects as Record<string, { className: string }>).map(([binding, object]) => [
      binding,
      { ...object, unsafeUniqueKey: `-${object.className}` },
    ]),
  );
