import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDoTallies, TALLY_SHARDS, tallyShardOf } from '../../../worker/experiments/tally-object.ts';
import type { DurableNamespace } from '../../../worker/platform/store-calls.ts';
import type { ExperimentTallies } from '../../../worker/experiments/ports.ts';
import { percentile } from '../../../worker/experiments/statistics/sketch.ts';
import { sampleEvent } from '../../contracts/experiment-tallies.ts';
import { namespaceOf, objectSource, startObjects } from '../platform/object-rig.ts';
import { WAIT_MS } from '../../setup/slow.ts';

const SOURCE = objectSource('experiments/tally-object.ts');
const DAY_MS = 86_400_000;
const AT = Date.UTC(2026, 10, 25);

/** What an object has that was written to before answers were counted, and times kept as a curve. */
const BEFORE = `
  CREATE TABLE batches (id TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE spent (
    token TEXT, metric TEXT, until INTEGER NOT NULL, PRIMARY KEY (token, metric)) WITHOUT ROWID;
  CREATE TABLE units (
    unit TEXT, seed TEXT, variant TEXT NOT NULL, PRIMARY KEY (unit, seed)) WITHOUT ROWID;
  CREATE TABLE counts (
    seed TEXT, variant TEXT, units INTEGER NOT NULL, PRIMARY KEY (seed, variant)) WITHOUT ROWID;
  CREATE TABLE unit_values (
    unit TEXT, seed TEXT, metric TEXT, n INTEGER NOT NULL, sum REAL NOT NULL, before REAL,
    PRIMARY KEY (unit, seed, metric)) WITHOUT ROWID;
  CREATE TABLE moments (
    seed TEXT, variant TEXT, metric TEXT, n INTEGER NOT NULL, sum REAL NOT NULL, sum_squares REAL NOT NULL,
    paired INTEGER NOT NULL, pre_sum REAL NOT NULL, pre_sum_squares REAL NOT NULL, products REAL NOT NULL,
    PRIMARY KEY (seed, variant, metric)) WITHOUT ROWID;
  INSERT INTO units VALUES ('u1', 's', 'control');
  INSERT INTO counts VALUES ('s', 'control', 1);
  INSERT INTO unit_values VALUES ('u1', 's', 'latency_ms', 1, 100, NULL);
  INSERT INTO moments VALUES ('s', 'control', 'latency_ms', 1, 100, 10000, 0, 0, 0, 0);
`;
/** Values of two units, one of which has its own from before; the sum of the paired values was not kept then. */
const PAIRED = `
  INSERT INTO units VALUES ('u2', 's', 'control');
  INSERT INTO unit_values VALUES ('u1', 's', 'thumbs', 2, 1, 0.5), ('u2', 's', 'thumbs', 1, 1, NULL);
  INSERT INTO moments VALUES ('s', 'control', 'thumbs', 2, 1.5, 1.25, 1, 0.5, 0.25, 0.25);
`;

/** The real object with a clock that the test sets, an alarm that it rings, and a look at its tables. */
const SUBJECT = `
  import { ExperimentTally } from ${JSON.stringify(SOURCE)};
  export class Subject extends ExperimentTally {
    #clock; #sql;
    constructor(context) {
      const clock = { now: ${AT} };
      super(context, undefined, { now: () => clock.now });
      this.#clock = clock; this.#sql = context.storage.sql;
    }
    async fetch(request) {
      const { pathname } = new URL(request.url);
      if (pathname === '/') return super.fetch(request);
      if (pathname === '/before') { this.#sql.exec(await request.text()); return Response.json(null); }
      this.#clock.now = Number(pathname.slice(1));
      await this.alarm();
      const count = (table) => {
        try { return this.#sql.exec('SELECT count(*) AS n FROM ' + table).one().n; } catch { return null; }
      };
      return Response.json([count('batches'), count('spent'), count('units')]);
    }
  }
`;

let miniflare: Miniflare;
let namespace: DurableNamespace;
let tallies: ExperimentTallies;
const unit = 'u1';

beforeAll(async () => {
  miniflare = await startObjects(SUBJECT, {
    durableObjects: { EXPERIMENTS: { className: 'Subject', useSQLite: true } },
  });
  namespace = await namespaceOf(miniflare, 'EXPERIMENTS');
  tallies = createDoTallies({ namespace, timeoutMs: WAIT_MS });
});
afterAll(() => miniflare.dispose());

const ring = async (experiment: string, at: number): Promise<unknown> => {
  const object = namespace.get(namespace.idFromName(`${experiment}/${tallyShardOf(unit)}`));
  return (await object.fetch(`https://tally.invalid/${at}`)).json();
};
const feedback = (token: string, expiresAt: number) => ({
  ...{ token, expiresAt, seed: 's', variant: 'control', unit, metric: 'thumbs', value: 1 },
  ...{ before: null, at: AT },
});

describe('a tally', () => {
  it('forgets batches after a day and tokens after their time, and keeps what it counted', async () => {
    await tallies.add('forgets', { id: 'b', at: AT, events: [sampleEvent({ unit })] });
    await tallies.feedback('forgets', feedback('short', AT + 2 * DAY_MS));
    await tallies.feedback('forgets', feedback('long', AT + 7 * DAY_MS));
    expect(await ring('forgets', AT + DAY_MS)).toEqual([1, 2, 1]);
    expect(await ring('forgets', AT + 2 * DAY_MS)).toEqual([0, 2, 1]);
    expect(await ring('forgets', AT + 3 * DAY_MS)).toEqual([0, 1, 1]);
    expect(await tallies.feedback('forgets', feedback('long', AT + 7 * DAY_MS))).toBe('repeated');
    expect(await ring('forgets', AT + 8 * DAY_MS)).toEqual([0, 0, 1]);
    expect((await tallies.snapshot('forgets', 's')).metrics).toMatchObject({ thumbs: { control: { n: 1 } } });
  });

  it('is emptied when nobody has written for half a year, and can be written to again', async () => {
    await tallies.add('old', { id: 'b', at: AT, events: [sampleEvent({ unit })] });
    expect(await ring('old', AT + 179 * DAY_MS)).toEqual([0, 0, 1]);
    expect(await ring('old', AT + 181 * DAY_MS)).toEqual([null, null, null]);
    expect((await tallies.snapshot('old', 's')).units).toEqual({});
    await tallies.add('old', { id: 'b', at: AT, events: [sampleEvent({ unit })] });
    expect((await tallies.snapshot('old', 's')).units).toEqual({ control: 1 });
  });

  it('tells forty segments apart, and counts all others together', async () => {
    // The shard's own units, so that all are in one object.
    const units = Array.from({ length: 2_000 }, (_, i) => `v${i}`).filter(
      (one) => tallyShardOf(one) === tallyShardOf(unit),
    );
    const events = units
      .slice(0, 45)
      .map((one, i) => sampleEvent({ unit: one, segment: `=${i}`, values: { latency_ms: 10 } }));
    await tallies.add('many', { id: 'b', at: AT, events: events.slice(0, 39) });
    await tallies.add('many', { id: 'c', at: AT, events: [...events.slice(39), ...events.slice(0, 39)] });
    const { segments } = await tallies.snapshot('many', 's');
    expect(Object.keys(segments)).toHaveLength(41);
    expect(segments['=39']?.units).toEqual({ control: 1 });
    expect(segments['other']).toMatchObject({
      units: { control: 5 },
      metrics: { latency_ms: { control: { n: 5, sum: 50 } } },
    });
  });

  it('goes on with what one of before has counted', async () => {
    const object = namespace.get(namespace.idFromName(`from-before/${tallyShardOf(unit)}`));
    await object.fetch('https://tally.invalid/before', { method: 'POST', body: BEFORE });
    expect(await tallies.snapshot('from-before', 's')).toMatchObject({
      units: { control: 1 },
      metrics: { latency_ms: { control: { n: 1, sum: 100 } } },
      counts: {},
      refused: {},
    });
    const event = sampleEvent({ unit, values: { latency_ms: 300 }, marks: ['answered', 'cold'] });
    await tallies.add('from-before', { id: 'b', at: AT, events: [event] });
    expect(await tallies.snapshot('from-before', 's')).toMatchObject({
      units: { control: 1 },
      metrics: { latency_ms: { control: { n: 1, sum: 200 } } },
      counts: { control: { answers: 1, nameless: 0, namelessUnits: 0, cold: 1 } },
      // The unit was counted before it was kept how values are spread: half of that would be wrong.
      sketches: {},
    });
    const treated = sampleEvent({ unit, seed: 'later', values: { latency_ms: 300 } });
    await tallies.add('from-before', { id: 'c', at: AT, events: [treated] });
    const { sketches } = await tallies.snapshot('from-before', 'later');
    expect(percentile(sketches['latency_ms']!['control']!, 0.5)).toBeCloseTo(300, -1);
  });

  it('sums the paired values of units that it has from before, once', async () => {
    const object = namespace.get(namespace.idFromName(`paired/${tallyShardOf(unit)}`));
    await object.fetch('https://tally.invalid/before', { method: 'POST', body: BEFORE + PAIRED });
    const thumbs = async () => (await tallies.snapshot('paired', 's')).metrics['thumbs']?.['control'];
    const known = { n: 2, sum: 1.5, paired: 1, pairedSum: 0.5, preSum: 0.5, products: 0.25 };
    expect(await thumbs()).toMatchObject(known);
    expect(await thumbs()).toMatchObject(known);
    await tallies.feedback('paired', { ...feedback('t', AT + DAY_MS), before: 9 });
    expect(await thumbs()).toMatchObject({ n: 2, paired: 1, pairedSum: 2 / 3, preSum: 0.5 });
  });

  it('shares the units among its objects evenly, each always with the same one', () => {
    const counts = Array<number>(TALLY_SHARDS).fill(0);
    for (let i = 0; i < 8_000; i += 1) counts[tallyShardOf(`unit-${i}`)]! += 1;
    for (const count of counts) expect(Math.abs(count - 1_000)).toBeLessThan(200);
    expect(['', 'a', 'u1', 'Zm9vYmFyYmF6cXV4MTIzNA'].map(tallyShardOf)).toEqual([5, 4, 3, 0]);
  });

  it('refuses what it does not understand, and takes nothing of it', async () => {
    const broken = { id: 'x', at: AT, events: [sampleEvent({ unit, values: { latency_ms: Number.NaN } })] };
    await expect(tallies.add('odd', broken)).rejects.toThrow('DO');
    expect((await tallies.snapshot('odd', 's')).units).toEqual({});
  });
});
