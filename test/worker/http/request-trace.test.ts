import { describe, expect, it } from 'vitest';
import { createRequestTrace } from '../../../worker/http/request.ts';
import { readOriginPhases, serverTiming } from '../../../worker/completions/routes.ts';

const ENDING = { status: 200, promptTokens: 1, completionTokens: 2 };

function traceAt() {
  let now = 1_000;
  const trace = createRequestTrace({ now: () => now });
  const work = async <T>(ms: number, value: T): Promise<T> => {
    await Promise.resolve();
    now += ms;
    return value;
  };
  return { trace, work };
}

describe('createRequestTrace', () => {
  it('measures phases, adds up what comes twice, and counts what fails', async () => {
    const { trace, work } = traceAt();
    expect(await trace.time('key', work(3, 'k'))).toBe('k');
    await trace.time('origin', work(10, null));
    const failing = work(7, null).then(() => Promise.reject(new Error('no')));
    await expect(trace.time('origin', failing)).rejects.toThrow('no');
    expect([...trace.phases()]).toEqual([
      ['key', 3],
      ['origin', 17],
    ]);
  });

  it('tells the ending once, whether it is heard before or after', () => {
    for (const listenFirst of [true, false]) {
      const { trace } = traceAt();
      const heard: unknown[] = [];
      if (listenFirst) trace.onFinish((ending) => heard.push(ending));
      trace.finish(ENDING);
      trace.finish({ ...ENDING, status: 499 });
      if (!listenFirst) trace.onFinish((ending) => heard.push(ending));
      expect(heard).toEqual([ENDING]);
      expect(trace.ending).toEqual(ENDING);
    }
  });

  it('keeps the last of each fact', () => {
    const { trace } = traceAt();
    trace.note({ tenant: 't', name: 'a' });
    trace.note({ name: 'b', version: 2 });
    expect(trace.facts).toEqual({ tenant: 't', name: 'b', version: 2 });
  });
});

describe('serverTiming', () => {
  it('joins the edge’s phases and the origin’s', async () => {
    const { trace, work } = traceAt();
    await trace.time('key', work(3, null));
    expect(serverTiming(trace, readOriginPhases('prompt;dur=1, first;dur=20.5'))).toBe(
      'key;dur=3, origin-prompt;dur=1, origin-first;dur=20.5',
    );
    expect(serverTiming(trace, readOriginPhases(null))).toBe('key;dur=3');
  });

  it('passes nothing on but names and milliseconds', () => {
    const { trace } = traceAt();
    for (const odd of ['x;desc="10.0.0.1"', 'a;dur=1;desc=x', 'A;dur=1', 'a;dur=-1', 'a', '<script>'])
      expect(serverTiming(trace, readOriginPhases(odd))).toBe('');
    const many = Array.from({ length: 40 }, () => 'a;dur=1').join(', ');
    expect(serverTiming(trace, readOriginPhases(many)).split(', ')).toHaveLength(8);
  });
});
