import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import type { ExperimentEvent, ExperimentTallies, FeedbackValue } from '../../worker/experiments/ports.ts';
import {
  capAt,
  cappedMoments,
  percentile,
  SKETCH_ERROR,
  toldIn,
  toRows,
  type Sketch,
} from '../../worker/experiments/statistics/sketch.ts';
import { createFakeTallies } from '../fakes/fake-tallies.ts';

const AT = Date.UTC(2026, 10, 25);

export const sampleEvent = (more: Partial<ExperimentEvent> = {}): ExperimentEvent => ({
  experiment: 'e',
  seed: 's',
  variant: 'control',
  unit: 'u1',
  at: AT,
  values: { latency_ms: 100 },
  shadow: false,
  ...more,
});
const NOTHING = {
  ...{ units: {}, metrics: {}, shadow: {}, counts: {}, refused: {} },
  ...{ sketches: {}, shadowSketches: {}, segments: {} },
};
const feedback = (more: Partial<FeedbackValue> = {}): FeedbackValue & { at: number } => ({
  token: 't1',
  expiresAt: AT + 1_000_000,
  seed: 's',
  variant: 'control',
  unit: 'u1',
  metric: 'thumbs',
  value: 1,
  before: null,
  at: AT,
  ...more,
});

/** Steps of a history: events and feedback of few units, with values whose sums are exact in doubles. */
const steps = fc.array(
  fc.record({
    unit: fc.integer({ min: 0, max: 5 }),
    variant: fc.integer({ min: 0, max: 1 }),
    seed: fc.constantFrom('s', 'other'),
    metric: fc.constantFrom('a', 'b'),
    value: fc.integer({ min: -64, max: 64 }),
    before: fc.option(fc.integer({ min: 0, max: 8 })),
    segment: fc.option(fc.constantFrom('=a', '=b', 'none')),
    fed: fc.boolean(),
    shadow: fc.boolean(),
    /** Sent so often. */
    times: fc.integer({ min: 1, max: 2 }),
  }),
  { maxLength: 30 },
);

/** What every place that counts experiments does. */
export function experimentTalliesContract(name: string, make: () => Promise<ExperimentTallies>): void {
  describe(`experiment tallies: ${name}`, () => {
    let tallies: ExperimentTallies;
    let batches = 0;
    const add = (events: ExperimentEvent[], id = `b${(batches += 1)}`) =>
      tallies.add('e', { id, at: AT, events });
    beforeEach(async () => {
      tallies = await make();
    });

    it('knows nothing of what nobody told', async () => {
      expect(await tallies.snapshot('e', 's')).toEqual(NOTHING);
    });

    it('counts a unit once, and its mean as its value', async () => {
      await add([sampleEvent(), sampleEvent({ values: { latency_ms: 300 } })]);
      await add([sampleEvent({ values: { latency_ms: 200 } }), sampleEvent({ unit: 'u2' })]);
      await add([sampleEvent({ unit: 'u3', variant: 'treatment', values: {} })]);
      expect(await tallies.snapshot('e', 's')).toEqual({
        ...NOTHING,
        units: { control: 2, treatment: 1 },
        metrics: { latency_ms: { control: { n: 2, sum: 300, sumSquares: 200 ** 2 + 100 ** 2 } } },
        sketches: { latency_ms: { control: expect.any(Map) } },
      });
    });

    it('counts a batch once, however often it is sent', async () => {
      const events = Array.from({ length: 40 }, (_, i) => sampleEvent({ unit: `u${i}` }));
      await Promise.all([add(events, 'same'), add(events, 'same')]);
      await add(events, 'same');
      const { units, metrics } = await tallies.snapshot('e', 's');
      expect(units).toEqual({ control: 40 });
      expect(metrics['latency_ms']?.['control']).toEqual({ n: 40, sum: 4_000, sumSquares: 400_000 });
    });

    it('keeps experiments and seeds apart', async () => {
      await add([sampleEvent(), sampleEvent({ seed: 'later', unit: 'x1' })]);
      await tallies.add('other', { id: 'b1', at: AT, events: [sampleEvent({ experiment: 'other' })] });
      for (const [experiment, seed] of [
        ['e', 's'],
        ['e', 'later'],
        ['other', 's'],
      ] as const)
        expect((await tallies.snapshot(experiment, seed)).units).toEqual({ control: 1 });
    });

    it('leaves a unit with its first variant', async () => {
      await add([sampleEvent()]);
      await add([sampleEvent({ variant: 'treatment', values: { latency_ms: 900 } })]);
      expect(await tallies.snapshot('e', 's')).toMatchObject({
        units: { control: 1 },
        metrics: { latency_ms: { control: { n: 1, sum: 100 } } },
      });
    });

    it('counts shadows by the request, and never as units', async () => {
      const shadow = { shadow: true, variant: 'shadow' };
      await add([sampleEvent({ ...shadow, values: { latency_ms: 10, error_rate: 0 } })]);
      await add([sampleEvent({ ...shadow, values: { latency_ms: 30 } })]);
      expect(await tallies.snapshot('e', 's')).toEqual({
        ...NOTHING,
        shadow: {
          latency_ms: { n: 2, sum: 40, sumSquares: 1_000 },
          error_rate: { n: 1, sum: 0, sumSquares: 0 },
        },
        shadowSketches: { latency_ms: expect.any(Map) },
      });
    });

    it('tells how the single values are spread, and caps those of the units', async () => {
      const latency = (unit: string, latency_ms: number) => sampleEvent({ unit, values: { latency_ms } });
      // Units 1 to 99 have their own number as latency; the last one has 100 and 9,900, of which the mean is 5,000.
      await add(Array.from({ length: 99 }, (_, i) => latency(`u${i + 1}`, i + 1)));
      await add([latency('u100', 100)]);
      await add([latency('u100', 9_900), sampleEvent({ unit: 'u1', values: { error_rate: 1 } })]);
      const { sketches } = await tallies.snapshot('e', 's');
      expect(Object.keys(sketches)).toEqual(['latency_ms']);
      const sketch = sketches['latency_ms']!['control']!;
      expect(toldIn(sketch)).toBe(101);
      for (const [at, exact] of [
        [0.5, 51],
        [0.95, 96],
        [1, 9_900],
      ] as const)
        expect(Math.abs(percentile(sketch, at)! / exact - 1)).toBeLessThanOrEqual(SKETCH_ERROR);
      const cap = capAt(sketch, 0.99)!;
      expect(cap.value).toBeGreaterThanOrEqual(99);
      expect(cap.value).toBeLessThan(99 * 1.041);
      expect(cappedMoments(sketch, cap).sum).toBeCloseTo(4_950 + cap.value, 6);
    });

    it('counts a unit in its first segment', async () => {
      const of = (unit: string, segment: string, latency_ms: number) =>
        sampleEvent({ unit, segment, values: { latency_ms } });
      await add([of('u1', '=pro', 100), of('u1', '=free', 300)]);
      await add([sampleEvent({ unit: 'u2' }), of('u3', 'none', 10)]);
      await tallies.feedback('e', feedback());
      const { segments } = await tallies.snapshot('e', 's');
      expect(segments).toMatchObject({
        '=pro': {
          units: { control: 1 },
          metrics: { latency_ms: { control: { n: 1, sum: 200 } }, thumbs: { control: { n: 1, sum: 1 } } },
        },
        none: { units: { control: 1 }, metrics: { latency_ms: { control: { n: 1, sum: 10 } } } },
      });
      expect(Object.keys(segments).sort()).toEqual(['=pro', 'none']);
    });

    it('counts in its segment also what overtook its request', async () => {
      await tallies.feedback('e', feedback({ value: 0.25 }));
      await add([sampleEvent({ segment: '=pro', values: { latency_ms: 7 } })]);
      await tallies.feedback('e', feedback({ token: 't2', value: 0.75 }));
      expect((await tallies.snapshot('e', 's')).segments).toMatchObject({
        '=pro': {
          units: { control: 1 },
          metrics: { latency_ms: { control: { n: 1, sum: 7 } }, thumbs: { control: { n: 1, sum: 0.5 } } },
        },
      });
    });

    it('counts answers by variant, and those that name no user', async () => {
      const named = sampleEvent({ marks: ['answered'] });
      const nameless = sampleEvent({ unit: 'k1', variant: 'treatment', marks: ['answered', 'nameless'] });
      // Of an answer that has begun only its unit counts.
      await add([{ ...nameless, values: {}, marks: ['nameless'] }, nameless]);
      const cold = sampleEvent({ marks: ['answered', 'cold'] });
      await add([named, cold, nameless, sampleEvent({ unit: 'k1', marks: ['answered', 'nameless'] })]);
      expect((await tallies.snapshot('e', 's')).counts).toEqual({
        control: { answers: 2, nameless: 0, namelessUnits: 0, cold: 1 },
        treatment: { answers: 2, nameless: 2, namelessUnits: 1, cold: 0 },
      });
      expect((await tallies.snapshot('e', 'other')).counts).toEqual({});
    });

    it('counts refused feedback by what it called its metric', async () => {
      for (const [metric, unit, at] of [
        ['thumb', 'u1', AT],
        ['thumb', 'u2', AT + 5],
        ['stars', 'u1', AT],
      ] as const)
        await tallies.refused('e', { seed: 's', metric, unit, at });
      expect(await tallies.snapshot('e', 's')).toEqual({
        ...NOTHING,
        refused: { thumb: { n: 2, at: AT + 5 }, stars: { n: 1, at: AT } },
      });
    });

    it('takes each metric once of a token, and keeps the first value', async () => {
      await add([sampleEvent({ values: {} })]);
      expect(await tallies.feedback('e', feedback())).toBe('counted');
      expect(await tallies.feedback('e', feedback({ value: 0 }))).toBe('repeated');
      expect(await tallies.feedback('e', feedback({ metric: 'resolved', value: 0 }))).toBe('counted');
      expect(await tallies.feedback('e', feedback({ token: 't2', value: 0 }))).toBe('counted');
      const { units, metrics } = await tallies.snapshot('e', 's');
      expect(units).toEqual({ control: 1 });
      expect(metrics).toEqual({
        thumbs: { control: { n: 1, sum: 0.5, sumSquares: 0.25 } },
        resolved: { control: { n: 1, sum: 0, sumSquares: 0 } },
      });
    });

    it('takes one of many that come at once', async () => {
      const answers = await Promise.all(Array.from({ length: 8 }, () => tallies.feedback('e', feedback())));
      expect(answers.filter((answer) => answer === 'counted')).toHaveLength(1);
    });

    it('counts feedback that overtakes its exposure', async () => {
      await tallies.feedback('e', feedback());
      await add([sampleEvent({ values: {} })]);
      expect(await tallies.snapshot('e', 's')).toMatchObject({
        units: { control: 1 },
        metrics: { thumbs: { control: { n: 1, sum: 1 } } },
      });
    });

    it('counts feedback under the seed of its exposure', async () => {
      await add([sampleEvent({ values: {} })]);
      await tallies.feedback('e', feedback({ seed: 'later' }));
      expect((await tallies.snapshot('e', 'later')).units).toEqual({});
      expect((await tallies.snapshot('e', 's')).metrics).toMatchObject({ thumbs: { control: { n: 1 } } });
    });

    it('pairs values with those from before, of the units that have one', async () => {
      await tallies.feedback('e', feedback({ value: 1, before: 0.5 }));
      // The first that was told of a unit stays.
      await tallies.feedback('e', feedback({ token: 't2', value: 0, before: 9 }));
      await tallies.feedback('e', feedback({ token: 't3', unit: 'u2', value: 1, before: 2 }));
      const paired = async () => (await tallies.snapshot('e', 's')).metrics['thumbs']?.['control'];
      expect(await paired()).toEqual({
        n: 2,
        sum: 1.5,
        sumSquares: 1.25,
        paired: 2,
        pairedSum: 1.5,
        preSum: 2.5,
        preSumSquares: 4.25,
        products: 0.25 + 2,
      });
      await tallies.feedback('e', feedback({ token: 't4', unit: 'u3' }));
      expect(await paired()).toMatchObject({ n: 3, sum: 2.5, paired: 2, pairedSum: 1.5, preSum: 2.5 });
      await tallies.feedback('e', feedback({ token: 't5', unit: 'u3', before: 1 }));
      expect(await paired()).toMatchObject({ n: 3, paired: 3, pairedSum: 2.5, preSum: 3.5, products: 3.25 });
    });

    it('comes to what adding everything up at the end comes to', async () => {
      let run = 0;
      await fc.assert(
        fc.asyncProperty(steps, async (history) => {
          const experiment = `h${(run += 1)}`;
          const plain = createFakeTallies();
          for (const [i, step] of history.entries()) {
            // A unit's hash is over its seed, and mostly it has one variant.
            const unit = `${step.seed}${step.unit}`;
            const variant = ['control', 'treatment'][i % 9 === 0 ? step.variant : step.unit % 2] as string;
            const { seed, metric, value, before, shadow } = step;
            const segment = step.segment === null ? {} : { segment: step.segment };
            for (let time = 0; time < step.times; time += 1)
              for (const one of [tallies, plain])
                if (step.fed)
                  await one.feedback(
                    experiment,
                    feedback({ token: `t${i}`, seed, unit, variant, metric, value, before }),
                  );
                else
                  await one.add(experiment, {
                    id: `b${i}`,
                    at: AT,
                    events: [
                      sampleEvent({
                        ...{ experiment, seed, unit, variant, values: { [metric]: value }, shadow },
                        ...segment,
                      }),
                    ],
                  });
          }
          for (const seed of ['s', 'other'])
            expect(await rounded(tallies, experiment, seed)).toEqual(await rounded(plain, experiment, seed));
        }),
        { numRuns: 15, seed: 7 },
      );
    });

    it('of an experiment that is erased are gone, take nothing in, and others stay', async () => {
      const tallies = await make();
      const count = async (experiment: string, id: string) => {
        const event = sampleEvent({ experiment, seed: 's', unit: 'u', variant: 'a', values: { m: 1 } });
        await tallies.add(experiment, { id, at: AT, events: [event] });
        return (await tallies.snapshot(experiment, 's')).units;
      };
      expect([await count('e', 'b1'), await count('f', 'b1')]).toEqual([{ a: 1 }, { a: 1 }]);
      for (let i = 0; i < 2; i += 1) await tallies.erase('e');
      const told = { token: 't', expiresAt: AT + 1, metric: 'm', value: 1, before: null, at: AT };
      await tallies.feedback('e', { ...told, seed: 's', variant: 'a', unit: 'u' });
      await tallies.refused('e', { seed: 's', unit: 'u', metric: 'x', at: AT });
      expect(await count('e', 'b2')).toEqual({});
      expect(await tallies.snapshot('e', 's')).toMatchObject({ metrics: {}, refused: {} });
      expect((await tallies.snapshot('f', 's')).units).toEqual({ a: 1 });
    });
  });
}

/** Sums in another order differ in their last digits. */
async function rounded(tallies: ExperimentTallies, experiment: string, seed: string): Promise<unknown> {
  const snapshot = await tallies.snapshot(experiment, seed);
  return JSON.parse(
    JSON.stringify(snapshot, (_key, value: unknown) => {
      if (value instanceof Map) return toRows(value as Sketch).sort(([a], [b]) => a - b);
      return typeof value === 'number' ? Math.round(value * 1e6) / 1e6 + 0 : value;
    }),
  );
}
