import { expect, it } from 'vitest';
import { shadowFigures } from '../../dashboard/model/shadow-figures.ts';

it('a shadow’s figures are shares and numbers, as their metrics are', () => {
  const shadow = {
    latency_ms: { n: 1_234, mean: 380.24 },
    error_rate: { n: 1_236, mean: 0.0016 },
    disagreement: { n: 16, mean: 0.125 },
  };
  expect(shadowFigures({ shadow })).toEqual([
    { metric: 'latency_ms', requests: '1,234', mean: '380' },
    { metric: 'error_rate', requests: '1,236', mean: '0.16 %' },
    { metric: 'disagreement', requests: '16', mean: '12.5 %' },
  ]);
});
