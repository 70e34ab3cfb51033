import { expect, it } from 'vitest';
import { requestPhases } from '../../dashboard/model/request-phases.ts';
import { sampleRequests } from '../browser/sample-traffic.ts';

const spans = (more: object) => {
  const [request] = sampleRequests(0);
  const all = requestPhases({ ...request!, ...more });
  return Object.fromEntries(all.map(({ name, ms }) => [name, ms]));
};
const phases = [
  { name: 'key', ms: 4 },
  { name: 'name', ms: 10 },
  { name: 'origin', ms: 60 },
  { name: 'origin-prompt', ms: 5 },
  { name: 'origin-first', ms: 40 },
];

it('splits a stream into what it waited for, one after the other', () => {
  expect(spans({ duration_ms: 500, ttft_ms: 75, phases })).toEqual({
    ...{ lookup: 10, origin: 25, 'first token': 40, answer: 425 },
  });
});

it('takes the rest of a whole answer from the origin', () => {
  const whole = [
    ...phases.slice(0, 2),
    { name: 'origin', ms: 480 },
    phases[4]!,
    { name: 'origin-rest', ms: 420 },
  ];
  expect(spans({ duration_ms: 500, ttft_ms: null, phases: whole })).toEqual({
    ...{ lookup: 10, origin: 30, 'first token': 40, answer: 420 },
  });
});

it('knows no origin where none was asked', () => {
  expect(spans({ duration_ms: 9, ttft_ms: null, phases: phases.slice(0, 1) })).toEqual({
    lookup: 4,
    rest: 5,
  });
});

it('always adds up to the duration, and nothing is negative', () => {
  for (const request of sampleRequests(0)) {
    const all = requestPhases(request);
    expect(all.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(request.duration_ms);
    expect(Math.min(...all.map(({ ms }) => ms))).toBeGreaterThanOrEqual(0);
  }
});
