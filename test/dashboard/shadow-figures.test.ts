import { expect, it } from 'vitest';
import { shadowFigures } from '../../dashboard/model/experiment-words.ts';

it('formats a shadow’s figures as shares and numbers, like their metrics', () => {
  const shadow = {
    latency_ms: { n: 1_234, mean: 380.24, p50: 301.2, p95: 1_911.4 },
    error_rate: { n: 1_236, mean: 0.0016 },
    disagreement: { n: 16, mean: 0.125 },
  };
  expect(shadowFigures({ shadow })).toEqual([
    { metric: 'latency_ms', requests: '1,234', mean: '380', p50: '301', p95: '1,911' },
    { metric: 'error_rate', requests: '1,236', mean: '0.16 %', p50: '–', p95: '–' },
    { metric: 'disagreement', requests: '16', mean: '12.5 %', p50: '–', p95: '–' },
  ]);
});
