import { describe, expect, it } from 'vitest';
import { sampleRatio } from '../../../../worker/experiments/statistics/sample-ratio.ts';

describe('sampleRatio', () => {
  it('waits until every arm should have eight units', () => {
    expect(sampleRatio([], [1, 1])).toEqual({ state: 'too_few_units', pValue: 1 });
    expect(sampleRatio([15, 0], [1, 1]).state).toBe('too_few_units');
    expect(sampleRatio([16, 0], [1, 1]).state).toBe('alarm');
    expect(sampleRatio([70, 9], [0.9, 0.1]).state).toBe('too_few_units');
  });

  it('alarms for an arm that nobody reaches', () => {
    expect(sampleRatio([500, 0], [1, 1]).state).toBe('alarm');
    expect(sampleRatio([500, 500, 0], [1, 1, 0.1]).state).toBe('alarm');
  });

  it('does not alarm for what chance does', () => {
    expect(sampleRatio([505, 495], [1, 1]).state).toBe('ok');
    expect(sampleRatio([340, 330, 335], [34, 33, 33]).state).toBe('ok');
  });
});
