/** A small fleet in virtual time: what bench/LOG.md says of a large one holds. */
import { describe, expect, it } from 'vitest';
import { simulateFleet, type FleetCase } from '../../bench/fleet/simulate.ts';
import { arrivals, staticOptimum, zipf } from '../../bench/fleet/workloads.ts';
import { median } from '../../bench/statistics.ts';
import { seededRandom } from '../../bench/seeded-random.ts';

const small: FleetCase = {
  ...{
    kind: 'zipf',
    policy: 'replicas',
    origins: 4,
    names: 200,
    memory: 0.2,
    keeping: 'frequent',
    requests: 3_000,
    fills: 100_000,
  },
};
const run = (more: Partial<FleetCase>) => simulateFleet({ ...small, ...more }, 11);

describe('a fleet in virtual time', () => {
  it('is the same each time', () => {
    expect(run({ requests: 500 })).toEqual(run({ requests: 500 }));
  });

  it('finds chains in memory nearly as often as one home each, without its queues', () => {
    const [replicas, home, spread] = (['replicas', 'single-home', 'random'] as const).map((policy) =>
      run({ policy }),
    );
    expect(replicas!.counted).toBeGreaterThan(2_500);
    expect(replicas!.resident).toBeGreaterThan(0.95 * home!.resident);
    expect(replicas!.resident).toBeGreaterThan(1.2 * spread!.resident);
    expect(replicas!.queueP99Ms).toBeLessThan(home!.queueP99Ms / 4);
    expect(replicas!.loadsPerMinute).toBeLessThan(spread!.loadsPerMinute / 2);
  });

  it('takes in a crowd within half a minute', () => {
    // A window of 5 s has 48 requests of this crowd, one of which is more than one in a hundred; and four origins at
    // three quarters of their rows have none free for a moment in every hundredth. So the middle of five crowds.
    const absorbed = [8, 9, 10, 11, 12].map(
      (seed) => simulateFleet({ ...small, kind: 'flash' }, seed).absorbedButOneS,
    );
    expect(absorbed).not.toContain(null);
    expect(median(absorbed as number[])).toBeLessThanOrEqual(30);
    expect(run({ kind: 'flash', policy: 'single-home' }).absorbedButOneS).toBeNull();
  });
});

describe('many isolates, each of which sees little', () => {
  const many = {
    ...small,
    origins: 8,
    names: 1_000,
    memory: 0.02,
    requests: 4_000,
    lifeMs: 300_000,
  } as const;
  const [few, hundred] = [4, 100];

  it.each(['zipf', 'flash', 'deploy'] as const)('queue little longer than few do: %s', (kind) => {
    const [of4, of100] = [few, hundred].map((isolates) => simulateFleet({ ...many, kind, isolates }, 11));
    expect(of100!.counted).toBeGreaterThan(3_500);
    expect(of4!.queueP99Ms).toBeLessThan(1_000);
    expect(of100!.queueP99Ms).toBeLessThan(2_000);
    expect(Math.abs(of100!.resident - of4!.resident)).toBeLessThan(0.02);
  });

  it.each(['die', 'drain'] as const)('lose no time while an eighth of the origins %s', (kind) => {
    const fleet = simulateFleet({ ...many, kind, isolates: hundred }, 11);
    expect(fleet.counted).toBeGreaterThan(3_500);
    expect(fleet.queueP99Ms).toBeLessThan(2_000);
    expect(fleet.turnedAway).toBeLessThan(0.05);
    if (kind === 'drain') expect(fleet.cut).toBe(0);
    // 16 rows at most, of 6,000 requests.
    else expect(fleet.cut).toBeLessThanOrEqual(16);
  });

  it('queue no longer where origins differ, and transfers share their network', () => {
    const load = { waitMs: 100, mb: 20, mbPerS: 125 };
    const fleet = simulateFleet({ ...many, kind: 'zipf', isolates: hundred, unequal: true, load }, 11);
    expect(fleet.queueP99Ms).toBeLessThan(2_000);
  });

  it('find the prompts of most conversations where they come', () => {
    const talks = { ...many, isolates: hundred, laterTurns: 0.75 } as const;
    for (const kind of ['zipf', 'flash'] as const) {
      const fleet = simulateFleet({ ...talks, kind }, 11);
      // 0.65 in a crowd without preference.
      expect(fleet.knownTurns).toBeGreaterThan(0.8);
      expect(fleet.queueP99Ms).toBeLessThan(2_000);
    }
    expect(simulateFleet({ ...talks, kind: 'zipf', policy: 'random' }, 11).knownTurns).toBeLessThan(0.3);
  });

  it('would queue for seconds if origins told nothing but their load', () => {
    const [alone, told] = (['nothing', 'edges'] as const).map((tells) =>
      simulateFleet({ ...many, isolates: hundred, tells }, 11),
    );
    expect(alone!.queueP99Ms).toBeGreaterThan(2 * told!.queueP99Ms);
  });
});

describe('what an origin keeps', () => {
  it('is found more often than the least recently used kept, where memory is short', () => {
    const short = { memory: 0.02, names: 500, requests: 4_000 };
    const [frequent, recent] = (['frequent', 'recent'] as const).map((keeping) => run({ ...short, keeping }));
    expect(frequent!.resident).toBeGreaterThan(1.1 * recent!.resident);
    expect(frequent!.loadsPerMinute).toBeLessThan(0.9 * recent!.loadsPerMinute);
  });

  it.each(['flash', 'diurnal'] as const)(
    'is found no less often while a %s shifts what is asked for',
    (kind) => {
      for (const memory of [0.05, 0.2]) {
        const [frequent, recent] = (['frequent', 'recent'] as const).map((keeping) =>
          run({ kind, memory, keeping }),
        );
        // Half a percentage point is what two runs of some thousand requests differ by chance.
        expect(frequent!.resident).toBeGreaterThan(recent!.resident - 0.005);
      }
    },
  );
});

describe('its workload', () => {
  it('is Zipf’s, and as much as the rows bear', () => {
    expect(staticOptimum(zipf(1_000), 1_000)).toBeCloseTo(1);
    expect(staticOptimum(zipf(2), 1)).toBeCloseTo(2 / 3);
    const all = [
      ...arrivals({
        kind: 'zipf',
        names: 100,
        rows: 16,
        serviceMs: 2_000,
        lastsMs: 1e6,
        random: seededRandom(3),
      }),
    ];
    // 0.6 x 16 rows of 2 s are 4.8 a second; four standard deviations of a Poisson are 277.
    expect(Math.abs(all.length - 4_800)).toBeLessThan(277);
    const first = all.filter(({ name }) => name === 0).length / all.length;
    expect(Math.abs(first - zipf(100)[0]!)).toBeLessThan(0.03);
  });
});
