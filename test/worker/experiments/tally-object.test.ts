import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDoTallies, TALLY_SHARDS, tallyShardOf } from '../../../worker/experiments/tally-object.ts';
import type { DurableNamespace } from '../../../worker/platform/store-calls.ts';
import type { ExperimentTallies } from '../../../worker/experiments/ports.ts';
import { sampleEvent } from '../../contracts/experiment-tallies.ts';
import { namespaceOf, objectSource, startObjects } from '../platform/object-rig.ts';
import { WAIT_MS } from '../../setup/slow.ts';

const SOURCE = objectSource('experiments/tally-object.ts');
const DAY_MS = 86_400_000;
const AT = Date.UTC(2026, 10, 25);

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
