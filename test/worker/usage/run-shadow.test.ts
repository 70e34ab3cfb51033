import { beforeEach, describe, expect, it, vi } from 'vitest';
import { USAGE_COMMENT } from '../../../protocol/index.ts';
import type { ExperimentEvent, ShadowRunner } from '../../../worker/stores/types-experiments.ts';
import type { MeteredAnswer } from '../../../worker/stores/types-metering.ts';
import { createShadowRunner } from '../../../worker/usage/run-shadow.ts';

type Answer = Pick<MeteredAnswer, 'response' | 'note'>;

let events: ExperimentEvent[];
let work: Promise<unknown>[];
let now: number;
let room: boolean;
let runner: ShadowRunner;

const run = (ask: (signal: AbortSignal) => Promise<Answer>) =>
  runner.run({
    event: { experiment: 'e', seed: 's', unit: 'u' },
    ask,
    keepAlive: (promise) => void work.push(promise),
  });
const whole = (note: string | null, status = 200): Answer => ({
  response: Response.json({}, { status }),
  note,
});
const stream = (text: string): Answer => ({
  response: new Response(text, { headers: { 'content-type': 'text/event-stream' } }),
  note: 'prompt=10',
});

beforeEach(() => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  events = [];
  work = [];
  now = 1_000;
  room = true;
  runner = createShadowRunner({
    sink: { record: (event) => void events.push(event) },
    hasRoom: () => room,
    now: () => now,
    maxAtOnce: 2,
    budgetMs: 25_000,
  });
});

describe('a shadow', () => {
  it('is recorded as what it was', async () => {
    run(async () => {
      now += 300;
      return whole('prompt=10,completion=4,finish=stop');
    });
    await Promise.all(work);
    expect(events).toEqual([
      {
        ...{ experiment: 'e', seed: 's', unit: 'u', variant: 'shadow', at: 1_300, shadow: true },
        values: {
          ...{ ttft_ms: 300, latency_ms: 300, output_tokens: 4, error_rate: 0, length_rate: 0, cost: 14 },
        },
      },
    ]);
  });

  it('is read to its end when it is a stream, which says how it ended', async () => {
    run(async () =>
      stream(`data: {}\n\n${USAGE_COMMENT}prompt=10,completion=6,finish=length\n\ndata: [DONE]\n\n`),
    );
    await Promise.all(work);
    expect(events).toMatchObject([{ values: { output_tokens: 6, length_rate: 1, cost: 16 } }]);
  });

  it('has failed when its stream ended before its end, or it was refused', async () => {
    run(async () => stream('data: {}\n\n'));
    await Promise.all(work);
    run(async () => whole(null, 503));
    await Promise.all(work);
    expect(events.map(({ values }) => values)).toEqual([{ error_rate: 1 }, { error_rate: 1 }]);
  });

  it('is not run while others are, or while the origins are busy', async () => {
    const asked: number[] = [];
    let end: () => void = () => undefined;
    const held = new Promise<Answer>((resolve) => (end = () => resolve(whole(null))));
    for (let i = 0; i < 4; i += 1)
      run(() => {
        asked.push(i);
        return held;
      });
    expect(asked).toEqual([0, 1]);
    end();
    await Promise.all(work);
    room = false;
    run(async () => whole(null));
    room = true;
    run(async () => whole(null));
    await Promise.all(work);
    expect(events).toHaveLength(3);
  });

  it('does not take its place for good when it is cut off', async () => {
    for (let i = 0; i < 2; i += 1) run(() => new Promise(() => undefined));
    now += 25_000;
    run(async () => whole(null));
    await work.at(-1);
    expect(events).toHaveLength(1);
  });

  it('disturbs nobody by what it throws', async () => {
    run(() => Promise.reject(new Error('odd')));
    await Promise.all(work);
    expect(events).toEqual([]);
  });
});
