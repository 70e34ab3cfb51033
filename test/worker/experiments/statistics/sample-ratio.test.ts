import { describe, expect, it } from 'vitest';
import { SAMPLE_RATIO_ALARM, sampleRatio } from '../../../../worker/experiments/statistics/sample-ratio.ts';
import { chiSquareTail } from '../../../../worker/experiments/statistics/gamma.ts';
import { seeded } from './simulate.ts';

const once = (units: readonly number[], shares: readonly number[]) =>
  sampleRatio([{ units, dealt: [shares] }]);

describe('sampleRatio', () => {
  it('is the inverse Bayes factor: the product of each unit’s prediction from those before it', () => {
    // A Dirichlet prior of 100 units predicts arm i with (100 share + its units so far) / (100 + all units so
    // far).
    const order = [0, 0, 1, 0, 2, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
    const shares = [0.5, 0.3, 0.2];
    const seen = [0, 0, 0];
    let factor = 1;
    for (const [i, arm] of order.entries()) {
      factor *= (100 * shares[arm]! + seen[arm]!) / (100 + i) / shares[arm]!;
      seen[arm]! += 1;
    }
    expect(once(seen, [5, 3, 2]).pValue).toBeCloseTo(1 / factor, 10);
  });

  it('waits until every arm should have eight units', () => {
    expect(sampleRatio([])).toEqual({ state: 'too_few_units', pValue: 1 });
    expect(once([0, 0], [1, 1])).toEqual({ state: 'too_few_units', pValue: 1 });
    expect(once([15, 0], [1, 1]).state).toBe('too_few_units');
    expect(once([70, 9], [0.9, 0.1]).state).toBe('too_few_units');
  });

  it('alarms for an arm that nobody reaches, from 36 units on, and for any unit in an arm that should be empty', () => {
    expect(once([32, 0], [1, 1]).state).toBe('ok');
    expect(once([36, 0], [1, 1]).state).toBe('alarm');
    expect(once([500, 500, 0], [1, 1, 0.1]).state).toBe('alarm');
    expect(once([500, 500, 1], [1, 1, 0]).state).not.toBe('ok');
    expect(once([500, 500, 0], [1, 1, 0]).pValue).toBe(1);
  });

  it('does not alarm for chance fluctuations', () => {
    expect(once([505, 495], [1, 1]).state).toBe('ok');
    expect(once([340, 330, 335], [34, 33, 33]).state).toBe('ok');
    expect(once([1000, 1200], [1, 1]).state).toBe('alarm');
  });

  it('accepts any mixture of a phase’s distributions, and adds the phases’ evidence', () => {
    const dealt = [
      [14, 2],
      [135, 15],
    ] as const;
    // 12.5 % and 10 %: both, and everything between, are correct.
    for (const share of [0.125, 0.11, 0.1])
      expect(sampleRatio([{ units: [100_000 * (1 - share), 100_000 * share], dealt }]).state).toBe('ok');
    expect(sampleRatio([{ units: [91_500, 8_500], dealt }]).state).toBe('alarm');
    const slight = { units: [530, 440], dealt: [[1, 1]] as const } as const;
    expect(sampleRatio([slight]).state).toBe('ok');
    expect(sampleRatio([slight, slight]).state).toBe('alarm');
  });
});

describe('300 healthy experiments to 100,000 units, with continuous looks', () => {
  it('alarm in at most one of a hundred; a chi-square test at 0.001 at each look does in more', () => {
    const random = seeded(12);
    const alarms = { sequential: 0, looking: 0 };
    for (let i = 0; i < 300; i++) {
      const units = [0, 0];
      const seen = { sequential: false, looking: false };
      for (let n = 1, next = 16; n <= 100_000; n++) {
        units[random() < 0.5 ? 0 : 1]! += 1;
        if (n < next) continue;
        next = Math.ceil(n * 1.01);
        const [a, b] = units as [number, number];
        seen.sequential ||= once(units, [1, 1]).pValue < SAMPLE_RATIO_ALARM;
        seen.looking ||= chiSquareTail((a - b) ** 2 / n, 1) < 0.001;
      }
      alarms.sequential += Number(seen.sequential);
      alarms.looking += Number(seen.looking);
    }
    expect(alarms.sequential / 300).toBeLessThanOrEqual(0.01);
    expect(alarms.looking / 300).toBeGreaterThan(0.025);
  });
});
