/**
 * `npm run bench -- names`: what operations cost with ten thousand names and with a million, on the real worker in
 * workerd with its D1 and KV.
 */
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { z } from 'zod';
import { generateApiKey } from '../protocol/identity.ts';
import { parseSigningKeys } from '../protocol/signature.ts';
import { startFakeOrigin } from '../test/fakes/fake-origin.ts';
import { TINY_BASE, tinyAdapter } from '../test/fakes/tiny-adapters.ts';
import { describeMachine } from './machine.ts';
import { median } from './statistics.ts';
import { createState, startCountingEdge, type CountingEdge, type Statements } from './names/counting-edge.ts';
import {
  askedTenant,
  askerOf,
  fillRegistry,
  keyOf,
  makeKey,
  nameOf,
  NAMES_OF_TENANT,
  PAST,
  publish,
  stackedOn,
  tenantOf,
  type Ask,
  type Past,
} from './names/fill-registry.ts';

const USAGE = `npm run bench -- names [flags]
  Processor time, and rows that D1 reads and writes, of each operation with ten thousand names and with a million, of
  100 names a tenant, with a month of usage and 400 days of traffic. Registries are asked by turns; about an hour, and
  4 GB in the temporary folder.
  --names a,b          sizes, multiples of 1,000 from 3,000 on (default: 10000,1000000)
  --turns N            of each operation, of which the best counts (default 5)
  --only <text>        only operations whose name has this in it
  --statements         also prints, for each operation, the statement that reads most rows
  --folder PATH        keeps the filled registries there, and begins with those that are there
  --short              one turn of a few requests each, and days of usage and traffic; not for figures`;

const DAY_MS = 86_400_000;
/** Of processor time a request, for operations that grew with the registry once. */
const MOST_MS = 50;
/** From the smallest registry to the largest. */
const MOST_GROWTH = 1.5;
/** Tenants are asked, and some erased. */
const FEWEST = 3_000;
const FEW_DAYS: Past = { usage: 2, hours: 1, days: 3 };
const SECRET = Buffer.alloc(32, 7).toString('base64');
const CHAT = { messages: [{ role: 'user', content: 'hi' }], max_tokens: 1 };

/** A registry that is measured, and the keys of its requests. */
interface Side {
  names: number;
  tenants: number;
  /** Tenant of most names and keys that are asked. */
  asked: number;
  edge: CountingEdge;
  /** With the bootstrap key unless given another. */
  ask: Ask;
  keys: Record<'own' | 'many' | 'everything' | 'admin', string>;
  /** A name that its tenant has published by requests, so that all stores have it. */
  hot: string;
}

interface Operation {
  name: string;
  /** In a turn. */
  times: number;
  /** Bounded by {@link MOST_MS}, whatever the size. */
  bounded?: true;
  /** @param i another one each time. @returns requests made, if not one. */
  run(side: Side, i: number): Promise<unknown>;
}

const Page = z.object({ cursor: z.string().nullable() });
const cursorOf = (text: string): string | null => Page.parse(JSON.parse(text)).cursor;
const inPath = encodeURIComponent;
/** One of the tenants, spread over all of them. */
const spread = (side: Side, i: number): number => (i * 7_919 + 13) % side.tenants;
const get =
  (request: (side: Side, i: number) => string, key?: keyof Side['keys']): Operation['run'] =>
  (side, i) =>
    side.ask(`GET ${request(side, i)}`, key === undefined ? {} : { key: side.keys[key] });
const change =
  (route: string, body: (side: Side, i: number) => object, key?: keyof Side['keys']): Operation['run'] =>
  (side, i) =>
    side.ask(`POST ${route}`, { body: body(side, i), ...(key === undefined ? {} : { key: side.keys[key] }) });
const missing =
  (key: keyof Side['keys']): Operation['run'] =>
  (side, i) =>
    side.ask('POST /v1/chat/completions', {
      key: side.keys[key],
      body: { ...CHAT, model: `${tenantOf(key === 'own' ? side.asked : spread(side, i))}/tusk-${i}` },
      statuses: [404],
    });
const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
const month = (): string => `from=${dayOf(Date.now() - 30 * DAY_MS)}&to=${dayOf(Date.now() + DAY_MS)}`;
const askedKey = ({ asked }: Side): string => keyOf(asked);
const askedName = ({ asked }: Side): string => nameOf(asked, 0);
const FLIPPED = 5;
/** Names with two versions, which go live by turns. */
const flipped = ({ asked }: Side, i: number): string => `${tenantOf(asked)}/flip-${i % FLIPPED}`;
/** @returns other bytes for each number: `tinyAdapter` has 13 for each rank, and those of rank 2 are the pattern's. */
const newAdapter = (i: number) => tinyAdapter({ seed: i % 13, rank: 3 + Math.floor(i / 13) });

/** Follows the cursor. @returns pages read. */
async function pages(most: number, next: (cursor: string | null) => Promise<string>): Promise<number> {
  let cursor: string | null = null;
  for (let read = 1; ; read += 1) {
    cursor = cursorOf(await next(cursor));
    if (cursor === null || read === most) return read;
  }
}

const ERASING = 'erase a tenant, a page';
/** Pages that the dashboard reads for its tree. */
const TREE_PAGES = 5;
/** An erasure that is not over by then will not be. */
const MOST_ERASE_PAGES = 200;
/** The tenants with these numbers are erased, from the last one on. */
const erased = ({ tenants }: Side, i: number): string => tenantOf(tenants - 2 - i);

export const OPERATIONS: readonly Operation[] = [
  {
    name: 'completion',
    times: 20,
    run: (side) =>
      side.ask('POST /v1/chat/completions', { key: side.keys.own, body: { ...CHAT, model: side.hot } }),
  },
  {
    name: 'model, only in D1',
    times: 20,
    run: get((side, i) => `/v1/models/${nameOf(spread(side, i), 1 + (i % 50))}`, 'everything'),
  },
  { name: 'model, in KV', times: 20, run: get((side) => `/v1/models/${side.hot}`, 'own') },
  { name: '404, own names', times: 10, run: missing('own') },
  { name: '404, 24 scopes', times: 10, run: missing('many') },
  { name: '404, scope **', times: 10, run: missing('everything') },
  { name: '/v1/models, own names', times: 10, run: get(() => '/v1/models', 'own') },
  { name: '/v1/models, 24 scopes', times: 5, run: get(() => '/v1/models', 'many') },
  { name: '/v1/models, scope **', times: 5, run: get(() => '/v1/models', 'everything') },
  { name: 'names: page', times: 10, run: get(() => '/admin/names') },
  {
    name: 'names: late page',
    times: 10,
    run: get((side) => `/admin/names?cursor=${inPath(nameOf(side.tenants - 20, 0))}`),
  },
  {
    name: 'names: search',
    times: 20,
    run: get((side, i) => `/admin/names?prefix=${inPath(`${tenantOf(spread(side, i))}/task-0`)}`),
  },
  { name: 'names: of a tenant', times: 20, run: get(() => '/admin/names', 'admin') },
  {
    name: 'tree: one of 5 pages',
    times: 2,
    run: (side) =>
      pages(TREE_PAGES, async (cursor) => {
        const query = cursor === null ? '' : `?cursor=${inPath(cursor)}`;
        return (await side.ask(`GET /admin/names${query}`)).text;
      }),
  },
  {
    name: 'versions',
    times: 20,
    run: get((side, i) => `/admin/versions?name=${inPath(stackedOn(nameOf(spread(side, i), i % 20)))}`),
  },
  { name: 'history', times: 10, run: get(() => '/admin/history') },
  { name: 'history: of a tenant', times: 10, run: get(() => '/admin/history', 'admin') },
  {
    name: 'history: of a name',
    times: 20,
    run: get((side, i) => `/admin/history?name=${inPath(nameOf(spread(side, i), 3))}`),
  },
  { name: 'grants', times: 10, run: get(() => '/admin/grants') },
  { name: 'grants: of a tenant', times: 20, run: get(() => '/admin/grants', 'admin') },
  { name: 'experiments', times: 10, run: get(() => '/admin/experiments') },
  { name: 'experiments: of a tenant', times: 20, run: get(() => '/admin/experiments', 'admin') },
  { name: 'keys: page of 100', times: 10, run: get(() => '/admin/keys?limit=100') },
  { name: 'keys: page of 1,000', times: 5, bounded: true, run: get(() => '/admin/keys') },
  { name: 'keys: of a tenant', times: 20, run: get(() => '/admin/keys', 'admin') },
  {
    name: 'usage by tenant, 30 days',
    times: 3,
    bounded: true,
    run: get(() => `/admin/usage?by=tenant&${month()}`),
  },
  { name: 'usage by day', times: 3, bounded: true, run: get(() => `/admin/usage?by=day&${month()}`) },
  { name: 'usage by name', times: 3, bounded: true, run: get(() => `/admin/usage?by=name&${month()}`) },
  {
    name: 'usage: of a tenant',
    times: 10,
    run: get((side) => `/admin/usage?by=name&tenant=${tenantOf(side.asked)}&${month()}`),
  },
  { name: 'requests: of a tenant', times: 10, run: get(() => '/admin/requests', 'admin') },
  { name: 'traffic', times: 5, run: get(() => '/admin/traffic') },
  {
    name: 'traffic of a name, 30 days',
    times: 5,
    run: get((side) => `/admin/traffic?name=${inPath(askedName(side))}&${month()}`),
  },
  {
    name: 'traffic of a key, 30 days',
    times: 5,
    run: get((side) => `/admin/traffic?key=${askedKey(side)}&${month()}`),
  },
  {
    name: 'traffic: of a tenant, 30 days',
    times: 5,
    run: get((side) => `/admin/traffic?tenant=${tenantOf(side.asked)}&${month()}`),
  },
  {
    name: 'publish: one of 3 requests',
    times: 4,
    run(side, i) {
      const name = `${tenantOf(side.asked)}/new-${i}`;
      return publish(side.ask, { key: side.keys.admin, name, adapter: newAdapter(20 + i) });
    },
  },
  {
    name: 'alias',
    times: 5,
    run: change(
      '/admin/alias',
      (side, i) => ({ name: `${tenantOf(side.asked)}/alias-${i}`, target: side.hot }),
      'admin',
    ),
  },
  {
    name: 'rollback, promote',
    times: 5,
    async run(side, i) {
      const [key, name] = [side.keys.admin, flipped(side, i)];
      await side.ask('POST /admin/rollback', { key, body: { name } });
      await side.ask('POST /admin/promote', { key, body: { name, version: 2 } });
      return 2;
    },
  },
  {
    name: 'remove',
    times: 5,
    // Not the names that others are stacked on, nor that with an experiment.
    run: change('/admin/remove', (side, i) => ({ name: nameOf(side.asked, 20 + (i % 59)) }), 'admin'),
  },
  { name: 'removed', times: 10, bounded: true, run: get(() => '/admin/removed') },
  { name: 'removed: of a tenant', times: 10, bounded: true, run: get(() => '/admin/removed', 'admin') },
  { name: 'schedule', times: 3, run: (side) => side.edge.runSchedule() },
  {
    name: 'repair: names, dry',
    times: 3,
    run: change('/admin/repair', (side, i) => ({
      dry_run: true,
      cursor: `names:${nameOf(spread(side, i), 0)}`,
    })),
  },
  {
    name: 'repair: keys, dry',
    times: 3,
    run: change('/admin/repair', () => ({ dry_run: true, cursor: 'keys:' })),
  },
  {
    name: 'repair: rows',
    times: 3,
    run: change('/admin/repair', () => ({ dry_run: true, cursor: 'rows:' })),
  },
  {
    name: 'repair: names, writing 48',
    times: 1,
    run: change('/admin/repair', (side, i) => ({ cursor: `names:${nameOf((2 * i) % side.tenants, 0)}` })),
  },
  { name: 'gc: page', times: 5, run: change('/admin/gc', () => ({ dry_run: true })) },
  { name: "backup's plan", times: 5, bounded: true, run: get(() => '/admin/backup') },
  { name: 'backup: page of versions', times: 5, run: get(() => '/admin/backup/rows?table=versions') },
  {
    name: 'erase a tenant, dry',
    times: 2,
    bounded: true,
    run: change('/admin/erase', (side, i) => ({
      ...{ tenant: tenantOf(1 + (i % 20)), cascade: true, usage: true, dry_run: true },
    })),
  },
  {
    name: ERASING,
    times: 1,
    bounded: true,
    run: (side, i) =>
      pages(MOST_ERASE_PAGES, async (cursor) => {
        const body = { tenant: erased(side, i), cascade: true, usage: true, cursor };
        return (await side.ask('POST /admin/erase', { body })).text;
      }),
  },
];

/** One operation in one registry. */
export interface Cost {
  names: number;
  /** Processor time of workerd, ms a request; of the best turn, and of the middle one. */
  cpuMs: number;
  middleCpuMs: number;
  /** Of all requests of one operation, such as the pages of an erasure, ms: processor time and clock. */
  whole: { requests: number; cpuMs: number; wallMs: number };
  /** Of D1, for one operation. */
  rows: { statements: number; read: number; written: number };
  /** That reads most rows. */
  most: Statements[number] | null;
}

export interface OperationCosts {
  operation: string;
  costs: Cost[];
  /** Of processor time a request, from the first registry to the last. */
  growth: number;
  bounded: boolean;
}

/** Fills a registry, or copies the one that is kept, starts its edge and makes the keys that ask. */
async function startSide(params: {
  names: number;
  past: Past;
  work: string;
  kept: string | null;
  onProgress: (done: string) => void;
}): Promise<Side & { stop: () => Promise<void> }> {
  const { names, past, work, kept } = params;
  const adminKey = generateApiKey('ga');
  const originKeys = `k1:${SECRET}`;
  const origin = await startFakeOrigin({ id: 'o1', keys: parseSigningKeys(originKeys), base: TINY_BASE });
  const bindings = {
    ORIGINS: JSON.stringify([{ id: 'o1', url: origin.url }]),
    GRAFT_ORIGIN_KEYS: originKeys,
    GRAFT_MAC_KEY: SECRET,
    GRAFT_ADMIN_KEY_SHA256: createHash('sha256').update(adminKey).digest('hex'),
  };
  const state = path.join(work, `names-${names}`);
  const filled = kept === null ? null : path.join(kept, `names-${names}`);
  const isThere = filled !== null && (await stat(filled).catch(() => null)) !== null;
  if (isThere) await cp(filled, state, { recursive: true });
  else await createState(state, bindings);
  const onProgress = (done: string) => params.onProgress(`${names}: ${done}`);
  let edge = await startCountingEdge(state, bindings);
  const stop = async () => {
    await edge.stop();
    await origin.stop();
  };
  try {
    if (!isThere)
      await fillRegistry({ ...{ names, past, onProgress }, ask: askerOf(edge.url, adminKey), db: edge.db });
    if (!isThere && filled !== null) {
      await edge.stop();
      await mkdir(path.dirname(filled), { recursive: true });
      await cp(state, `${filled}.part`, { recursive: true });
      await rename(`${filled}.part`, filled);
      edge = await startCountingEdge(state, bindings);
    }
    const ask = askerOf(edge.url, adminKey);
    const tenants = names / NAMES_OF_TENANT;
    const asked = askedTenant(tenants);
    const tenant = tenantOf(asked);
    const scopes = Array.from({ length: 24 }, (_, i) => `${tenantOf((i * 37) % tenants)}/**`);
    const keys = {
      own: await makeKey(ask, { tenant }),
      many: await makeKey(ask, { tenant: 'many', scopes }),
      everything: await makeKey(ask, { tenant: 'everything', scopes: ['**'] }),
      admin: await makeKey(ask, { kind: 'admin', tenant }),
    };
    const side: Side = { names, tenants, asked, edge, ask, keys, hot: `${tenant}/hot` };
    await publish(ask, { key: keys.admin, name: side.hot, adapter: newAdapter(0) });
    for (let i = 0; i < 2 * FLIPPED; i += 1)
      await publish(ask, { key: keys.admin, name: flipped(side, i), adapter: newAdapter(1 + i) });
    onProgress('ready');
    return { ...side, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** @returns processor time, clock and requests of some runs of an operation, one after the other. */
async function timed(side: Side, operation: Operation, { from, times }: { from: number; times: number }) {
  const [cpu, clock] = [await side.edge.cpuMs(), performance.now()];
  let requests = 0;
  for (let i = from; i < from + times; i += 1) {
    const made = await operation.run(side, i);
    requests += typeof made === 'number' ? made : 1;
  }
  return { requests, cpuMs: (await side.edge.cpuMs()) - cpu, wallMs: performance.now() - clock };
}

/** What one run, the first, does in D1. */
async function counted(side: Side, operation: Operation): Promise<Pick<Cost, 'rows' | 'most'>> {
  await side.edge.statements();
  await operation.run(side, 0);
  const statements = await side.edge.statements();
  const sum = (of: 'runs' | 'read' | 'written') => statements.reduce((all, one) => all + one[of], 0);
  return {
    rows: { statements: sum('runs'), read: sum('read'), written: sum('written') },
    most: statements.sort((a, b) => b.read - a.read)[0] ?? null,
  };
}

async function measureOperation(
  sides: readonly Side[],
  operation: Operation,
  { turns, times }: { turns: number; times: number },
): Promise<OperationCosts> {
  const found = new Map<Side, Pick<Cost, 'rows' | 'most'>>();
  for (const side of sides) found.set(side, await counted(side, operation));
  const measured = new Map(sides.map((side) => [side, [] as Awaited<ReturnType<typeof timed>>[]]));
  for (let turn = 0; turn < turns; turn += 1)
    // Others on the machine slow down whoever is asked when they begin: not always the same one.
    for (const side of turn % 2 === 0 ? sides : [...sides].reverse())
      measured.get(side)?.push(await timed(side, operation, { from: 1 + turn * times, times }));
  const costs = sides.map((side): Cost => {
    const runs = measured.get(side) ?? [];
    const aRequest = runs.map(({ cpuMs, requests }) => cpuMs / requests);
    const best = runs[aRequest.indexOf(Math.min(...aRequest))] ?? { requests: 0, cpuMs: 0, wallMs: 0 };
    const { rows, most } = found.get(side) ?? { rows: { statements: 0, read: 0, written: 0 }, most: null };
    return {
      names: side.names,
      cpuMs: Math.min(...aRequest),
      middleCpuMs: median(aRequest),
      whole: {
        requests: best.requests / times,
        cpuMs: best.cpuMs / times,
        wallMs: best.wallMs / times,
      },
      rows,
      most,
    };
  });
  return {
    operation: operation.name,
    costs,
    growth: (costs.at(-1)?.cpuMs ?? NaN) / (costs[0]?.cpuMs ?? NaN),
    bounded: operation.bounded === true,
  };
}

/**
 * @param only operations whose name has this in it.
 * @param kept folder of filled registries; null = nothing is kept.
 * @param short a few requests each, over a short past.
 */
export async function measureNames(params: {
  sizes: readonly number[];
  turns: number;
  only: string;
  kept: string | null;
  short: boolean;
  signal: AbortSignal;
  onProgress: (done: string) => void;
}): Promise<{ measured: OperationCosts[]; problems: string[] }> {
  const { sizes, turns, only, kept, short, signal, onProgress } = params;
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-names-'));
  const sides: Awaited<ReturnType<typeof startSide>>[] = [];
  try {
    for (const names of sizes)
      sides.push(await startSide({ names, work, kept, past: short ? FEW_DAYS : PAST, onProgress }));
    const measured: OperationCosts[] = [];
    const problems: string[] = [];
    for (const operation of OPERATIONS.filter(({ name }) => name.includes(only))) {
      signal.throwIfAborted();
      const times = short ? 1 : operation.times;
      // One that fails does not cost what was measured before.
      const costs = await measureOperation(sides, operation, { turns, times }).catch((error: unknown) => {
        const cause = error instanceof Error && error.cause !== undefined ? ` (${String(error.cause)})` : '';
        problems.push(`${operation.name}: ${String(error)}${cause}`);
        return null;
      });
      if (costs !== null) measured.push(costs);
      const found = costs?.costs.map(({ cpuMs }) => `${cpuMs.toFixed(1)} ms`) ?? problems.slice(-1);
      onProgress(`${operation.name}: ${found.join(', ')}`);
    }
    return { measured, problems };
  } finally {
    for (const side of sides) await side.stop();
    await rm(work, { recursive: true, force: true });
  }
}

/** @throws Error that names the flag. */
export async function benchNames(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      names: { type: 'string', default: '10000,1000000' },
      turns: { type: 'string', default: '5' },
      only: { type: 'string', default: '' },
      statements: { type: 'boolean', default: false },
      folder: { type: 'string' },
      short: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const sizes = values.names.split(',').map(Number);
  if (sizes.some((size) => !(size >= FEWEST && size % 1_000 === 0)))
    throw new Error(`--names must be multiples of 1000 from ${FEWEST} on, such as 10000,1000000`);
  const turns = values.short ? 1 : Number(values.turns);
  // Each turn removes five of the 59 names that can be removed.
  if (!(Number.isInteger(turns) && turns >= 1 && turns <= 10)) throw new Error('--turns must be 1 to 10');
  const { measured, problems } = await measureNames({
    ...{ sizes, turns, signal, only: values.only, short: values.short },
    kept: values.folder === undefined ? null : path.resolve(values.folder),
    onProgress: (done) => process.stderr.write(`${done}\n`),
  });
  const machine = await describeMachine();
  console.log(formatNames(measured));
  if (values.statements) console.log(formatStatements(measured));
  for (const problem of problems) console.log(`PROBLEM ${problem}`);
  console.log(JSON.stringify({ date: new Date().toISOString(), machine, names: measured, problems }));
}

const ms = (value: number): string => value.toFixed(value < 100 ? 1 : 0);
const judged = ({ growth, bounded, costs }: OperationCosts): string =>
  [
    ...(growth > MOST_GROWTH ? ['grows'] : []),
    ...(bounded && (costs.at(-1)?.cpuMs ?? 0) > MOST_MS ? [`above ${MOST_MS} ms`] : []),
  ].join(', ');

/** @returns a table for people, and how long the erasure took as a whole. */
export function formatNames(all: readonly OperationCosts[]): string {
  const sizes = all[0]?.costs.map(({ names }) => names) ?? [];
  const table = new Table({
    head: [
      'operation',
      ...sizes.map((names) => `${names}: CPU ms a request (middle)`),
      'growth',
      ...sizes.map((names) => `${names}: statements, rows read, written`),
      'bar',
    ],
    style: { head: [], border: [] },
  });
  for (const one of all)
    table.push([
      one.operation,
      ...one.costs.map(({ cpuMs, middleCpuMs }) => `${ms(cpuMs)} (${ms(middleCpuMs)})`),
      one.growth.toFixed(2),
      ...one.costs.map(({ rows }) => `${rows.statements}, ${rows.read}, ${rows.written}`),
      judged(one),
    ]);
  const whole = all
    .filter(({ operation }) => operation === ERASING)
    .flatMap(({ costs }) => costs)
    .map(
      ({ names, whole: { requests, cpuMs, wallMs } }) =>
        `erasing a tenant of ${NAMES_OF_TENANT} names of ${names}: ${requests} pages, ${ms(cpuMs)} ms of CPU, ${ms(wallMs)} ms`,
    );
  return [table.toString(), ...whole].join('\n');
}

/** @returns of each operation the statement that reads most rows in the largest registry. */
const formatStatements = (all: readonly OperationCosts[]): string =>
  all
    .map(({ operation, costs }) => {
      const most = costs.at(-1)?.most;
      if (most == null) return `${operation}: none`;
      return `${operation}: ${most.read} rows in ${most.runs} runs: ${most.sql.replaceAll(/\s+/g, ' ')}`;
    })
    .join('\n');
