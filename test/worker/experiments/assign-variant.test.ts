import { describe, expect, it } from 'vitest';
import type { Experiment } from '../../../protocol/experiment.ts';
import { chiSquareTail } from '../../../worker/experiments/statistics/gamma.ts';
import { pickVariant, type Candidate } from '../../../worker/experiments/pick-variant.ts';
import { experimentOf, variantsOf } from './sample-experiment.ts';

const UNITS = Array.from({ length: 100_000 }, (_, i) => `acme/user/${i}`);
const SOME = UNITS.slice(0, 20_000);

const candidate = (changes: Partial<Candidate> = {}): Candidate => ({
  unit: 'acme/user/alice',
  tenant: 'acme',
  name: 'support/intent',
  header: () => null,
  ...changes,
});
/** The variant's key, or why there is none. */
const outcome = (experiment: Experiment, changes: Partial<Candidate> = {}): string => {
  const assignment = pickVariant(experiment, candidate(changes));
  return assignment.kind === 'variant' ? assignment.variant.key : assignment.reason;
};
const countBy = (experiment: Experiment, units: readonly string[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const unit of units) {
    const key = outcome(experiment, { unit });
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
};

describe('assignVariant', () => {
  it('splits 100,000 units by weight and coverage: chi-square above 0.001', () => {
    const splits: [weights: number[], coverage: number, units: string[]][] = [
      [[0.2, 0.3, 0.5], 0.5, UNITS],
      [[0.5, 0.5], 1, SOME],
      [[0.5, 0.5], 0.1, SOME],
      [Array.from({ length: 10 }, () => 0.1), 1, SOME],
    ];
    for (const [weights, coverage, units] of splits) {
      const counts = countBy(experimentOf({ variants: variantsOf(weights), coverage }), units);
      const arms = [
        ...weights.map((weight, i) => ({ n: counts[String.fromCharCode(97 + i)], share: weight * coverage })),
        ...(coverage < 1 ? [{ n: counts['not_covered'], share: 1 - coverage }] : []),
      ];
      const statistic = arms.reduce((sum, { n = 0, share }) => {
        const expected = share * units.length;
        return sum + (n - expected) ** 2 / expected;
      }, 0);
      expect(chiSquareTail(statistic, arms.length - 1)).toBeGreaterThan(0.001);
    }
  });

  it('gives the published answer', () => {
    expect(outcome(experimentOf())).toBe('treatment'); // bucket 8969
    expect(outcome(experimentOf({ coverage: 0.5 }))).toBe('not_covered');
    expect(outcome(experimentOf({ seed: 'support-intent-4' }))).toBe('control'); // bucket 411
  });

  it('assigns only while it is live', () => {
    for (const status of ['draft', 'decided', 'archived'])
      expect(outcome(experimentOf({ status }))).toBe('not_running');
    const ramp = { steps: [1], hold_minutes: 0, min_units: 0 };
    expect(outcome(experimentOf({ status: 'ramping', ramp }))).toBe('treatment');
  });

  it('stops everybody by the kill switch, testers too', () => {
    const overrides = [{ unit: 'acme/user/alice', variant: 'control' }];
    expect(outcome(experimentOf({ killed: true, overrides }))).toBe('killed');
  });

  it('puts testers where they are wanted, uncounted, whatever else holds', () => {
    const experiment = experimentOf({
      coverage: 0,
      targeting: { tenants: ['other'] },
      holdout: { name: 'year', share: 1 },
      overrides: [{ unit: 'acme/user/alice', variant: 'control' }],
    });
    expect(pickVariant(experiment, candidate())).toMatchObject({
      variant: { key: 'control' },
      counted: false,
    });
    expect(outcome(experiment, { unit: 'acme/user/bob' })).toBe('not_targeted');
    expect(pickVariant(experimentOf(), candidate())).toMatchObject({ counted: true });
  });

  it('targets by tenant, by name and by header, all at once', () => {
    const experiment = experimentOf({
      targeting: {
        tenants: ['acme'],
        name_prefix: 'support',
        headers: [{ name: 'x-app-version', values: ['2', '3'] }],
      },
    });
    const header = (name: string) => (name === 'x-app-version' ? '3' : null);
    expect(outcome(experiment, { header })).toBe('treatment');
    expect(outcome(experiment, { header, name: 'support' })).toBe('treatment');
    expect(outcome(experiment, { header, name: 'supports/intent' })).toBe('not_targeted');
    expect(outcome(experiment, { header, tenant: 'other' })).toBe('not_targeted');
    expect(outcome(experiment, { header: () => '1' })).toBe('not_targeted');
    expect(outcome(experiment)).toBe('not_targeted');
  });

  it('never has one unit in two experiments of a namespace, and fills it', () => {
    const of = (seed: string, range: [number, number]) =>
      experimentOf({ seed, namespace: { name: 'checkout', range } });
    const [one, other] = [of('one', [0, 0.4]), of('other', [0.4, 1])];
    const inside = (experiment: Experiment, unit: string) => outcome(experiment, { unit }) !== 'other_range';
    for (const unit of SOME) if (inside(one, unit) === inside(other, unit)) expect.unreachable(unit);
    // 8,000 expected; five standard deviations of a binomial are 346.
    expect(Math.abs(SOME.filter((unit) => inside(one, unit)).length - 8_000)).toBeLessThan(346);
  });

  it('splits evenly within a namespace: its hash has nothing to do with the variants', () => {
    const counts = countBy(experimentOf({ namespace: { name: 'checkout', range: [0, 0.4] } }), SOME);
    const { control = 0, treatment = 0 } = counts;
    expect(chiSquareTail((control - treatment) ** 2 / (control + treatment), 1)).toBeGreaterThan(0.001);
  });

  it('holds the same units out of all experiments with the holdout', () => {
    const holdout = { name: 'year', share: 0.05 };
    const one = experimentOf({ holdout });
    const other = experimentOf({ seed: 'another', holdout });
    const held = SOME.filter((unit) => outcome(one, { unit }) === 'held_out');
    for (const unit of held) expect(outcome(other, { unit })).toBe('held_out');
    // 1,000 expected; five standard deviations are 154.
    expect(Math.abs(held.length - 1_000)).toBeLessThan(154);
  });
});
