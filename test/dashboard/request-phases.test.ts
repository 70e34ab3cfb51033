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

it("splits a stream's time into its phases", () => {
  expect(spans({ duration_ms: 500, ttft_ms: 75, phases })).toEqual({
    ...{ lookup: 10, origin: 20, 'first token': 45, answer: 425 },
  });
});

it('separates the queue from prefill if the origin reports it', () => {
  const told = [...phases, { name: 'origin-queue', ms: 30 }];
  expect(spans({ duration_ms: 500, ttft_ms: 75, phases: told })).toEqual({
    ...{ lookup: 10, origin: 20, queue: 30, prefill: 15, answer: 425 },
  });
  const whole = [...told, { name: 'origin-rest', ms: 420 }].map((phase) =>
    phase.name === 'origin' ? { ...phase, ms: 480 } : phase,
  );
  expect(spans({ duration_ms: 500, ttft_ms: null, phases: whole })).toEqual({
    ...{ lookup: 10, origin: 30, queue: 30, prefill: 10, answer: 420 },
  });
});

it('knows the queue of a stream with early headers, and does not count the rest as sending', () => {
  const ahead = [...phases.slice(0, 2), { name: 'origin', ms: 3020 }, { name: 'origin-prompt', ms: 5 }];
  const request = { duration_ms: 9000, ttft_ms: 8030 };
  expect(spans({ ...request, phases: [...ahead, { name: 'origin-queue', ms: 3000 }] })).toEqual({
    ...{ lookup: 10, origin: 20, queue: 3000, 'first token': 5000, answer: 970 },
  });
  const begun = [
    { name: 'origin-queue', ms: 1000 },
    { name: 'origin-first', ms: 3000 },
  ];
  expect(spans({ ...request, phases: [...ahead, ...begun] })).toEqual({
    ...{ lookup: 10, origin: 20, queue: 1000, prefill: 7000, answer: 970 },
  });
  // Of an origin of before.
  expect(spans({ ...request, phases: ahead })).toEqual({
    ...{ lookup: 10, origin: 3020, 'first token': 5000, answer: 970 },
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

it('has no origin phase if none was asked', () => {
  expect(spans({ duration_ms: 9, ttft_ms: null, phases: phases.slice(0, 1) })).toEqual({
    lookup: 4,
    rest: 5,
  });
});

it('always adds up to the duration, without negative parts', () => {
  for (const request of sampleRequests(0)) {
    const all = requestPhases(request);
    expect(all.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(request.duration_ms);
    expect(Math.min(...all.map(({ ms }) => ms))).toBeGreaterThanOrEqual(0);
  }
});
