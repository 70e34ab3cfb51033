import { beforeEach, describe, expect, it, vi } from 'vitest';
import { USAGE_COMMENT } from '../../../protocol/origin-wire.ts';
import type {
  ExperimentEvent,
  ShadowedAnswer as Answer,
  ShadowRunner,
} from '../../../worker/experiments/ports.ts';
import { createShadowRunner } from '../../../worker/experiments/run-shadow.ts';
import { passedStream } from '../origins/passed-stream.ts';
import { HANG_MS } from '../../setup/slow.ts';

let events: ExperimentEvent[];
let work: Promise<unknown>[];
let now: number;
let room: boolean;
let runner: ShadowRunner;

/** @param answer what the user gets; compared unless it is left out. @returns what is sent to the user. */
const run = (ask: (signal: AbortSignal) => Promise<Answer>, answer?: Answer): Response['body'] =>
  runner.run({
    event: { experiment: 'e', seed: 's', unit: 'u' },
    ask,
    answer: answer ?? whole(null),
    compare: answer !== undefined,
    base: 'tiny',
    keepAlive: (promise) => void work.push(promise),
  });
const whole = (note: string | null, status = 200): Answer => ({
  response: Response.json({}, { status }),
  note,
});
const stream = (text: string): Answer => {
  const { body, ended } = passedStream(new Response(text).body!, { now: () => now });
  return {
    response: new Response(body, { headers: { 'content-type': 'text/event-stream' } }),
    note: 'prompt=10',
    ended,
  };
};

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
    maxComparedBytes: 1_000,
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

describe('a shadow that is compared', () => {
  const NOTE = 'prompt=1,completion=1,finish=stop';
  const saying = (text: string): Answer => ({
    response: Response.json({ choices: [{ index: 0, message: { role: 'assistant', content: text } }] }),
    note: NOTE,
  });
  const EVENT = 'data: {"choices":[{"index":0,"text":"yes"}]}\n\n';
  const DONE = 'data: [DONE]\n\n';
  const END = `${USAGE_COMMENT}${NOTE}\n\n${DONE}`;
  const compared = async (own: Answer, told: Answer) => {
    await new Response(run(() => Promise.resolve(own), told)).text();
    await Promise.all(work);
    return events.at(-1)?.values;
  };

  it('agrees, or does not, and nothing more of it is recorded', async () => {
    expect(await compared(saying('yes'), saying('yes'))).toMatchObject({ error_rate: 0, disagreement: 0 });
    expect(await compared(saying('no'), saying('yes'))).toMatchObject({ error_rate: 0, disagreement: 1 });
    expect(await compared(stream(EVENT + END), saying('yes'))).toMatchObject({ disagreement: 0 });
    expect(await compared(saying('yes'), stream(EVENT + END))).toMatchObject({ disagreement: 0 });
    expect(JSON.stringify(events)).not.toMatch(/yes|no/);
  });

  it('changes nothing of what the user gets', async () => {
    const told = stream(EVENT + END);
    expect(await new Response(run(() => Promise.resolve(saying('yes')), told)).text()).toBe(EVENT + DONE);
  });

  it.each<[string, Answer, Answer]>([
    ['the user’s answer broke off', saying('yes'), stream(EVENT)],
    ['the user’s answer was refused', saying('yes'), whole(null, 400)],
    ['the user’s answer is too long', saying('yes'), saying('y'.repeat(1_000))],
    ['its own was refused', whole(null, 503), saying('yes')],
    ['its own broke off', stream(EVENT), saying('yes')],
    ['its own is too long', saying('y'.repeat(1_000)), saying('yes')],
    ['its own is none', whole(NOTE), saying('yes')],
  ])('says nothing where %s', async (_what, own, told) => {
    const values = await compared(own, told);
    expect(values).toHaveProperty('error_rate');
    expect(values).not.toHaveProperty('disagreement');
  });

  it('waits for the user’s answer, whose time is not its own', async () => {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const headers = { 'content-type': 'text/event-stream' };
    const { body, ended } = passedStream(readable, { now: () => now });
    const told = { response: new Response(body, { headers }), note: 'prompt=1', ended };
    const reading = new Response(run(() => Promise.resolve(saying('yes')), told)).text();
    await writer.write(new TextEncoder().encode(EVENT));
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(events).toEqual([]);
    now += 400;
    await writer.write(new TextEncoder().encode(END));
    await writer.close();
    await Promise.all(work);
    expect(await reading).toBe(EVENT + DONE);
    expect(events).toMatchObject([{ values: { latency_ms: 0, disagreement: 0 } }]);
  });

  it('waits no longer than it may run', async () => {
    runner = createShadowRunner({
      sink: { record: (event) => void events.push(event) },
      ...{ hasRoom: () => true, now: () => now, maxAtOnce: 1, budgetMs: HANG_MS, maxComparedBytes: 1_000 },
    });
    const headers = { 'content-type': 'text/event-stream' };
    const { readable } = new TransformStream<Uint8Array, Uint8Array>();
    const listening = work.length + 1;
    run(() => Promise.resolve(saying('yes')), { response: new Response(readable, { headers }), note: null });
    // Its own work, which is told of after the listening.
    await work[listening];
    expect(events).toMatchObject([{ values: { error_rate: 0 } }]);
    expect(events[0]?.values).not.toHaveProperty('disagreement');
  });

  it('leaves the answer as it is when it is not run, or not compared', async () => {
    const told = saying('yes');
    room = false;
    expect(run(() => Promise.resolve(saying('yes')), told)).toBe(told.response.body);
    room = true;
    const sent = runner.run({
      event: { experiment: 'e', seed: 's', unit: 'u' },
      ask: () => Promise.resolve(saying('no')),
      answer: told,
      compare: false,
      base: 'tiny',
      keepAlive: (promise) => void work.push(promise),
    });
    expect(sent).toBe(told.response.body);
    await Promise.all(work);
    expect(events.every(({ values }) => !('disagreement' in values))).toBe(true);
  });
});

describe('a shadow that is judged', () => {
  const saying = (text: string): Answer => ({
    response: Response.json({ choices: [{ index: 0, message: { role: 'assistant', content: text } }] }),
    note: 'prompt=2,completion=3,finish=stop',
  });
  let ends: unknown[];
  const judged = async (ask: () => Promise<Answer>, told: Answer, mayBegin = true) => {
    ends = [];
    const body = runner.run({
      ...{ event: { experiment: 'e', seed: 's', unit: 'u' }, ask, answer: told, compare: false },
      pair: {
        begin: async () => mayBegin,
        async end({ control, treatment, tokens }) {
          ends.push({ control, treatment, tokens });
        },
      },
      base: 'tiny',
      keepAlive: (promise) => void work.push(promise),
    });
    const sent = await new Response(body).text();
    await Promise.all(work);
    return sent;
  };

  it('has both answers and what its own cost, and its figures are a shadow’s', async () => {
    const sent = await judged(() => Promise.resolve(saying('no')), saying('yes'));
    expect(JSON.parse(sent)).toMatchObject({ choices: [{ message: { content: 'yes' } }] });
    expect(ends).toEqual([{ control: ['yes'], treatment: ['no'], tokens: 5 }]);
    expect(events).toHaveLength(1);
    expect(events[0]?.values).not.toHaveProperty('disagreement');
  });

  it('is not run where no pair may be begun', async () => {
    const asked: unknown[] = [];
    const ask = () => Promise.resolve(saying(String(asked.push(1))));
    const sent = await judged(ask, saying('yes'), false);
    expect(JSON.parse(sent)).toMatchObject({ choices: [{ message: { content: 'yes' } }] });
    expect([asked, ends, events]).toEqual([[], [], []]);
  });

  it('says what is missing', async () => {
    await judged(() => Promise.reject(new Error('odd')), saying('yes'));
    expect(ends).toEqual([{ control: null, treatment: null, tokens: 0 }]);
    await judged(() => Promise.resolve(whole(null, 503)), saying('yes'));
    expect(ends).toEqual([{ control: null, treatment: null, tokens: 0 }]);
    await judged(() => Promise.resolve(saying('no')), stream('data: {}\n\n'));
    expect(ends).toMatchObject([{ control: null, treatment: ['no'] }]);
  });
});
