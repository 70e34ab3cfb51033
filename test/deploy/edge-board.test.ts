/** deploy/grafana/edge.json against the columns that the edge writes: SQLite parses and runs each query over such points. */
import { readFile } from 'node:fs/promises';
import initSqlJs, { type Database } from 'sql.js';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createAnalyticsPoints, type AnalyticsDataset } from '../../worker/http/request.ts';
import { sampleFeedback, samplePoint } from '../contracts/data-points.ts';

const Dashboard = z.object({
  uid: z.literal('graft-edge'),
  panels: z.array(
    z.object({
      id: z.int(),
      title: z.string(),
      type: z.enum(['row', 'timeseries', 'table']),
      gridPos: z.object({ x: z.int(), y: z.int(), w: z.int(), h: z.int() }),
      targets: z.array(z.object({ query: z.string(), format: z.string() })).default([]),
    }),
  ),
});

/** Of Analytics Engine's SQL reference: those that the board may use. */
const FUNCTIONS = ['SUM', 'intDiv', 'toUInt32', 'toDateTime', 'toString', 'quantileExactWeighted'];
const AT = 1_700_000_000;

/** Its types lack this. */
interface WithAggregates {
  create_aggregate<State>(
    name: string,
    functions: {
      init: () => State;
      step: (state: State, level: number, value: number, weight: number) => State;
      finalize: (state: State) => number;
    },
  ): void;
}

let panels: z.infer<typeof Dashboard>['panels'];
let written: Parameters<AnalyticsDataset['writeDataPoint']>[0][];
let db: Database & WithAggregates;

beforeAll(async () => {
  const file = new URL('../../deploy/grafana/edge.json', import.meta.url);
  ({ panels } = Dashboard.parse(JSON.parse(await readFile(file, 'utf8'))));
  written = [];
  const points = createAnalyticsPoints({ writeDataPoint: (point) => void written.push(point) });
  points.completion(samplePoint());
  points.completion(
    samplePoint({ tenant: 'other', status: 503, weight: 1, origin: 'o2', degraded: 'stale' }),
  );
  points.feedback(sampleFeedback());
  points.lostSpans(7);

  db = new (await initSqlJs()).Database() as typeof db;
  db.create_function('intDiv', (a: number, b: number) => Math.floor(a / b));
  db.create_function('toUInt32', (value: number) => value);
  db.create_function('toDateTime', (value: number) => value);
  db.create_function('toString', (value: number) => String(value));
  // Of points that all have one value.
  db.create_aggregate<number[]>('quantileExactWeighted', {
    init: () => [],
    // sql.js counts these.
    step: (seen, _level, value, _weight) => [...seen, value],
    finalize: (seen) => Math.max(...seen),
  });
  // No further columns: a query that names one is refused.
  const count = (of: 'blobs' | 'doubles') => Math.max(...written.map((point) => point[of].length));
  const blobs = Array.from({ length: count('blobs') }, (_, at) => `blob${at + 1} TEXT NOT NULL`);
  const doubles = Array.from({ length: count('doubles') }, (_, at) => `double${at + 1} REAL NOT NULL`);
  db.run(
    `CREATE TABLE graft_completions (timestamp INTEGER, _sample_interval INTEGER, index1 TEXT, ${[...blobs, ...doubles].join(', ')})`,
  );
  for (const point of written) {
    const padded = Array.from({ length: blobs.length }, (_, at) => point.blobs[at] ?? '');
    const values = [AT, 2, ...point.indexes, ...padded, ...point.doubles];
    db.run(`INSERT INTO graft_completions VALUES (${values.map(() => '?').join(', ')})`, values);
  }
});

const queries = () => panels.flatMap(({ title, targets }) => targets.map((target) => ({ title, ...target })));

/** With Grafana's macros as its plugin fills them in. @returns columns, and the first row by them. */
function run(query: string): { columns: string[]; rows: Record<string, unknown>[] } {
  const sql = query
    .replaceAll('$interval', '60')
    .replaceAll('$from', String(AT - 600))
    .replaceAll('$to', String(AT + 60))
    // ClickHouse writes an aggregate's parameters before its arguments.
    .replace(/(quantileExactWeighted)\(([\d.]+)\)\(/g, '$1($2, ');
  const statement = db.prepare(sql);
  const rows: Record<string, unknown>[] = [];
  while (statement.step()) rows.push(statement.getAsObject());
  const columns = statement.getColumnNames();
  statement.free();
  return { columns, rows };
}

const firstOf = (title: string): Record<string, unknown>[] =>
  queries().flatMap((one) => (one.title === title ? run(one.query).rows : []));

describe('the Grafana dashboard of the edge', () => {
  it('asks only for columns and kinds that the edge writes, by functions that Analytics Engine has', () => {
    const kinds = new Set(written.map(({ blobs }) => blobs[9]));
    expect(queries().length).toBeGreaterThan(12);
    for (const { title, query, format } of queries()) {
      const { columns, rows } = run(query);
      expect(rows.length, title).toBeGreaterThan(0);
      expect(kinds).toContain(/WHERE blob10 = '([\w-]+)'/.exec(query)?.[1]);
      // Each point stands for others, and Analytics Engine samples again.
      expect(query).toContain('_sample_interval * double10');
      for (const [, name] of query.matchAll(/(\w+)\(/g))
        if (!/^(AND|WHERE|IN)$/.test(name ?? '')) expect(FUNCTIONS, title).toContain(name);
      if (format === 'time_series') expect(columns[0], title).toBe('t');
      for (const value of rows.flatMap((row) => Object.values(row))) expect(value, title).not.toBeNull();
    }
  });

  it('refuses a column that nothing writes, so that this test would tell', () => {
    expect(() => run('SELECT blob19 FROM graft_completions')).toThrow('no such column');
  });

  it('means by each column what the edge does', () => {
    const t = Math.floor(AT / 60) * 60 * 1_000;
    expect(firstOf('Requests by status')).toEqual([
      { t, status: '200', requests: 200 / 60 },
      { t, status: '503', requests: 2 / 60 },
    ]);
    expect(firstOf('Failures')).toEqual([{ t, failed: 2 / 202 }]);
    expect(firstOf('Tokens')).toEqual([{ t, prompt: (12 * 202) / 60, completion: (34 * 202) / 60 }]);
    expect(firstOf("Time to the origin's headers")).toEqual([{ t, p50: 78, p95: 78 }]);
    expect(firstOf('Time to the last byte')).toEqual([{ t, p50: 560, p95: 560 }]);
    expect(firstOf('Answered by a fallback')).toEqual([{ t, degraded: 'stale', requests: 2 / 60 }]);
    expect(firstOf('Requests by origin').map(({ origin }) => origin)).toEqual(['o1', 'o2']);
    expect(firstOf('Failovers')).toEqual([{ t, origins: 202 / 60 }]);
    expect(firstOf('Tenants').map(({ tenant, requests }) => [tenant, requests])).toEqual([
      ['acme', 200],
      ['other', 2],
    ]);
    expect(firstOf('Names')).toEqual([
      { name: 'medicine/cardiology', requests: 202, tokens: 46 * 202, p95_ms: 78, failed: 2 },
    ]);
    expect(firstOf('Feedback')).toEqual([
      {
        ...{ experiment: 'exp_0123456789abcdef', variant: 'control', metric: 'thumbs' },
        ...{ reports: 200, mean: 0.5 },
      },
    ]);
    expect(firstOf('Lost spans')).toEqual([{ t, spans: 14 }]);
  });

  it('has panels that neither lie on one another nor leave the grid', () => {
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) => {
      expect(x + w).toBeLessThanOrEqual(24);
      return Array.from({ length: w * h }, (_, at) => `${x + (at % w)},${y + Math.floor(at / w)}`);
    });
    expect(new Set(cells).size).toBe(cells.length);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  });
});
