import { describe, expect, it } from 'vitest';
import { AUTOMATIC_METRICS } from '../../../protocol/experiment.ts';
import { isRepeatable } from '../../../worker/completions/routes.ts';
import { outcomeValues, type Outcome, disagreement } from '../../../worker/experiments/assign.ts';

const outcome = (more: Partial<Outcome> = {}): Outcome => ({
  ...{ status: 200, promptTokens: 12, completionTokens: 30, finish: 'stop' },
  ...{ ttftMs: 40, latencyMs: 900, stoodIn: false, stalled: false, cold: false },
  ...more,
});

describe('what a request says of its variant', () => {
  it('is each automatic metric of an answer', () => {
    const values = outcomeValues(outcome());
    expect(values).toEqual({
      ttft_ms: 40,
      latency_ms: 900,
      output_tokens: 30,
      error_rate: 0,
      left_rate: 0,
      length_rate: 0,
      cost: 42,
    });
    expect(Object.keys(values ?? {}).sort()).toEqual(AUTOMATIC_METRICS.map(({ key }) => key).sort());
  });

  it('says of length what the origin says', () => {
    expect(outcomeValues(outcome({ finish: 'length' }))).toMatchObject({ length_rate: 1 });
    expect(outcomeValues(outcome({ finish: null }))).not.toHaveProperty('length_rate');
  });

  it.each([500, 502, 503, 422])('is of a failure (%i) only that it was one', (status) => {
    expect(outcomeValues(outcome({ status }))).toEqual({ error_rate: 1, left_rate: 0 });
  });

  it('is a failure when something else stood in', () => {
    expect(outcomeValues(outcome({ stoodIn: true }))).toEqual({ error_rate: 1, left_rate: 0 });
    expect(outcomeValues(outcome({ stoodIn: true, status: 499 }))).toEqual({ error_rate: 1, left_rate: 1 });
  });

  it('is of a stream that stalled a failure that drove its reader away', () => {
    expect(outcomeValues(outcome({ status: 502, stalled: true }))).toEqual({ error_rate: 1, left_rate: 1 });
  });

  it('is of an answer that was left that it was, and how long that took', () => {
    expect(outcomeValues(outcome({ status: 499, finish: null }))).toEqual({
      ...{ ttft_ms: 40, latency_ms: 900 },
      ...{ error_rate: 0, left_rate: 1 },
    });
  });

  it('is without its times when it waited for an adapter', () => {
    const times = ['ttft_ms', 'latency_ms'];
    for (const status of [200, 499]) {
      const cold = outcomeValues(outcome({ status, cold: true })) ?? {};
      const warm = Object.entries(outcomeValues(outcome({ status })) ?? {});
      expect(cold).toEqual(Object.fromEntries(warm.filter(([metric]) => !times.includes(metric))));
    }
  });

  it.each([400, 401, 404, 413, 429])('is nothing when it is about the client (%i)', (status) => {
    expect(outcomeValues(outcome({ status }))).toBeNull();
  });

  it('is never below nothing, whatever the clock does', () => {
    expect(outcomeValues(outcome({ ttftMs: -3, latencyMs: -1 }))).toMatchObject({
      ttft_ms: 0,
      latency_ms: 0,
    });
  });
});

describe('disagreement', () => {
  it.each<[string[], string[], 0 | 1]>([
    [['yes'], ['yes'], 0],
    [['yes'], [' yes\n'], 0],
    [['yes'], ['Yes'], 1],
    [['a  b'], ['a b'], 1],
    [[''], ['  '], 0],
    [['a', 'b'], ['a', 'b'], 0],
    [['a', 'b'], ['b', 'a'], 1],
    [['a', 'b'], ['a'], 1],
    [['a'], ['a', 'b'], 1],
  ])('of %j and %j', (told, shadow, expected) => expect(disagreement(told, shadow)).toBe(expected));

  it.each<[Parameters<typeof isRepeatable>[0], boolean]>([
    [{ temperature: 0 }, true],
    [{ temperature: 0.7, seed: 3 }, true],
    [{ seed: 0 }, true],
    [{ temperature: 0.7 }, false],
    [{ temperature: null, seed: null }, false],
    [{}, false],
  ])('is asked for only where chance has no part: %j', (request, expected) =>
    expect(isRepeatable(request)).toBe(expected),
  );
});
