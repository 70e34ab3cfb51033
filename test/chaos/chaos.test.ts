/** What `npm run chaos` decides without processes: which blows fall, what an answer is, and whether a run passes. */
import { describe, expect, it } from 'vitest';
import { BLOW_KINDS, planBlows, skewOf } from './blows.ts';
import { CHANGES, Report, TARGETS } from './report.ts';
import {
  type Answer,
  judge,
  readStream,
  type Reference,
  Timeline,
  type Truth,
  type Verdict,
} from './truth.ts';

const MINUTES_30 = 30 * 60_000;

describe('planBlows', () => {
  it('plans the same blows for the same seed, and others for another', () => {
    const plan = (seed: number) => planBlows({ seed, durationMs: MINUTES_30, origins: 3 });
    expect(plan(7)).toEqual(plan(7));
    expect(plan(7)).not.toEqual(plan(8));
  });

  it.each([1, 2, 3])('plans more than a run of 30 minutes needs, seed %i', (seed) => {
    const blows = planBlows({ seed, durationMs: MINUTES_30, origins: 3 });
    const count = (...kinds: string[]) => blows.filter(({ kind }) => kinds.includes(kind)).length;
    // A few find nobody up.
    const needed = 1.1;
    expect(count('kill-origin', 'skew-origin', 'kill-edge', 'hang-origin')).toBeGreaterThan(
      needed * TARGETS.killsAndHangs,
    );
    expect(count('kill-origin', 'skew-origin', 'end-origin', 'kill-edge', 'end-edge')).toBeGreaterThan(
      needed * TARGETS.restarts,
    );
    expect(blows.every(({ origin }) => [0, 1, 2].includes(origin))).toBe(true);
    expect(blows.map(({ at }) => at)).toEqual(blows.map(({ at }) => at).sort((a, b) => a - b));
  });

  it('begins with a blow of each kind, so that a short run has all', () => {
    const blows = planBlows({ seed: 4, durationMs: 20_000, origins: 2, everyMs: 1_000 });
    const first = blows.slice(0, BLOW_KINDS.length).map(({ kind }) => kind);
    expect(first.sort()).toEqual([...BLOW_KINDS].sort());
  });

  it('skews clocks both ways, by less and by more than signatures allow', () => {
    const skews = Array.from({ length: 1_000 }, (_, i) => skewOf(i / 1_000));
    for (const direction of [-1, 1]) {
      const some = skews.filter((skew) => Math.sign(skew) === direction).map(Math.abs);
      expect(some.some((skew) => skew < 60_000)).toBe(true);
      expect(some.some((skew) => skew > 60_000)).toBe(true);
    }
  });
});

describe('Timeline', () => {
  it('has both values from the moment a change is sent until it is acknowledged', () => {
    const line = new Timeline('a');
    line.sent(10, 'b');
    expect(line.certain).toBeNull();
    line.settled(20, 'b');
    expect(line.certain).toBe('b');
    expect([...line.during(0, 9)]).toEqual(['a']);
    expect([...line.during(9, 10)].sort()).toEqual(['a', 'b']);
    expect([...line.during(12, 13)].sort()).toEqual(['a', 'b']);
    expect([...line.during(19, 30)].sort()).toEqual(['a', 'b']);
    expect([...line.during(20, 30)]).toEqual(['b']);
    expect([...line.ever(30)].sort()).toEqual(['a', 'b']);
  });

  it('keeps every value that may hold while the end of a change is unknown', () => {
    const line = new Timeline('a');
    line.sent(10, 'b');
    line.sent(20, 'c');
    expect([...line.during(25, 25)].sort()).toEqual(['a', 'b', 'c']);
  });
});

const REFERENCES: Record<string, Reference> = {
  old: { text: 'one two', finish: 'length' },
  new: { text: 'three four', finish: 'length' },
  other: { text: 'one five', finish: 'length' },
};
const whole = (text: string, finish: string | null = 'length') =>
  JSON.stringify({ choices: [{ message: { content: text }, finish_reason: finish }] });
const event = (chunk: object) => `data: ${JSON.stringify(chunk)}\n\n`;
const delta = (content: string) => event({ choices: [{ delta: { content }, finish_reason: null }] });
const END = event({ choices: [{ delta: {}, finish_reason: 'length' }] });
const DONE = 'data: [DONE]\n\n';
const failure = (code: string) => ({ error: { message: '', type: '', param: null, code } });

const judged = (answer: Partial<Answer>, truth: Partial<Truth> = {}): Verdict =>
  judge(
    {
      status: 200,
      stream: false,
      ended: 'clean',
      body: whole('one two'),
      adapter: null,
      stale: false,
      ...answer,
    },
    {
      key: new Set([true]),
      usable: new Set([true]),
      chains: new Set(['old']),
      everChains: new Set(['old', 'new']),
      said: null,
      edgeStruck: false,
      ...truth,
    },
    (chain) => REFERENCES[chain] as Reference,
  );
const breach = (kind: string) => ({ kind: 'breach', breach: kind });
const streamed = (body: string) => ({ stream: true, body });
const struck = { edgeStruck: true };

describe('judge', () => {
  it('takes whole answers of a chain in force, and errors', () => {
    expect(judged({})).toEqual({ kind: 'whole' });
    expect(judged(streamed(delta('one ') + ': waiting\n\n' + delta('two') + END + DONE))).toEqual({
      kind: 'whole',
    });
    expect(judged({ body: whole('three four') }, { chains: new Set(['old', 'new']) })).toEqual({
      kind: 'whole',
    });
    const error = failure('origin_unavailable');
    expect(judged(streamed(delta('one ') + event(error)))).toEqual({
      kind: 'failed',
      code: 'origin_unavailable',
    });
    expect(judged({ status: 503, body: JSON.stringify(error) })).toEqual({
      kind: 'refused',
      code: 'origin_unavailable',
    });
  });

  it('finds answers that are cut and do not say so', () => {
    expect(judged(streamed(delta('one ')))).toMatchObject(breach('cut'));
    expect(judged(streamed(delta('one two') + END))).toMatchObject(breach('cut'));
    expect(judged(streamed(delta('one two') + DONE))).toMatchObject(breach('cut'));
    expect(judged(streamed(delta('one ') + END + DONE))).toMatchObject(breach('cut'));
    expect(judged(streamed(''))).toMatchObject(breach('cut'));
    expect(judged({ body: whole('one ') })).toMatchObject(breach('cut'));
    expect(judged({ body: whole('one two').slice(0, -9) })).toMatchObject(breach('cut'));
    expect(judged({ body: whole('one two', 'stop') })).toMatchObject(breach('cut'));
    expect(judged({ ...streamed(delta('one ')), ended: 'broken' })).toMatchObject(breach('cut'));
    expect(judged({ ...streamed(delta('one ')), ended: 'broken' }, struck)).toEqual({ kind: 'broken' });
    const broken = { body: whole('one two').slice(0, 30), ended: 'broken' } as const;
    expect(judged(broken)).toMatchObject(breach('cut'));
    expect(judged(broken, struck)).toEqual({ kind: 'broken' });
    expect(judged({ ended: 'late' })).toMatchObject(breach('stuck'));
  });

  it('finds text of a chain that was not in force, also in the beginning of an answer', () => {
    expect(judged({ body: whole('three four') })).toMatchObject(breach('wrong'));
    expect(judged({ body: whole('one two three') })).toMatchObject(breach('wrong'));
    expect(judged({ ...streamed(delta('three')), ended: 'left' })).toMatchObject(breach('wrong'));
    expect(judged({ ...streamed(delta('three')), ended: 'broken' }, struck)).toMatchObject(breach('wrong'));
    expect(judged(streamed(delta('one five') + event(failure('x'))))).toMatchObject(breach('wrong'));
    expect(judged({}, { said: 'new', chains: new Set(['old', 'new']) })).toMatchObject(breach('wrong'));
    expect(judged({ body: whole('three four') }, { said: 'new' })).toMatchObject(breach('wrong'));
    expect(judged({ body: whole('three four'), stale: true })).toEqual({ kind: 'whole' });
  });

  it('finds rights that do not hold, and acknowledged ones that are missing', () => {
    const refusal = (code: string) => ({ status: 404, body: JSON.stringify(failure(code)) });
    const [yes, no, both] = [new Set([true]), new Set([false]), new Set([true, false])];
    expect(judged({}, { key: no })).toMatchObject(breach('wrong'));
    expect(judged({}, { usable: no })).toMatchObject(breach('wrong'));
    expect(judged({}, { key: both, usable: both })).toEqual({ kind: 'whole' });
    expect(judged(refusal('invalid_api_key'), { key: yes })).toMatchObject(breach('lost'));
    expect(judged(refusal('model_not_found'), { usable: yes })).toMatchObject(breach('lost'));
    expect(judged(refusal('model_not_found'), { usable: both })).toMatchObject({ kind: 'refused' });
    expect(judged(refusal('invalid_api_key'), { key: no })).toMatchObject({ kind: 'refused' });
    expect(judged({ status: 500, body: 'Internal Error' })).toMatchObject(breach('wrong'));
  });

  it('excuses a connection that is refused while the edge is down, and no other', () => {
    const refused = { status: null, ended: 'refused', body: '' } as const;
    expect(judged(refused, struck)).toEqual({ kind: 'unreachable' });
    expect(judged(refused)).toMatchObject(breach('died'));
  });
});

it('reads the events of a stream up to where it was cut', () => {
  const body = delta('one ') + delta('two');
  expect(readStream(body.slice(0, -20))).toMatchObject({ text: 'one ', done: false, error: null });
});

describe('Report', () => {
  it('passes a run with whole answers, and fails one with breaches or too few of them', () => {
    const report = new Report();
    expect(report.problems(1)).toHaveLength(1);
    report.answer({ kind: 'whole' });
    report.answer({ kind: 'left' });
    report.answer({ kind: 'unreachable' });
    report.answer({ kind: 'refused', code: 'queue_full' });
    expect(report.problems(1)).toEqual([]);
    report.answer({ kind: 'broken' });
    expect(report.problems(1)).toEqual([expect.stringContaining('only 1 of 3 answers were whole')]);
    report.answer({ kind: 'whole' });
    report.breaches.push({ kind: 'lost', at: 0, why: '', detail: {}, blowBefore: null });
    expect(report.problems(1)).toEqual(['1 lost']);
  });

  it('holds a run of 30 minutes to its targets, and one of 5 to all kinds of blows and changes', () => {
    const report = new Report();
    report.answer({ kind: 'whole' });
    expect(report.problems(TARGETS.minutes)).toHaveLength(4);
    for (const kind of BLOW_KINDS) report.blow(kind, true);
    expect(report.problems(5)).toEqual([
      expect.stringMatching(/^never acknowledged: publish, .*take grant$/),
    ]);
    for (const what of CHANGES) report.change(what, 0);
    expect(report.problems(5)).toEqual([]);
    while (report.killsAndHangs < TARGETS.killsAndHangs) report.blow('kill-origin', true);
    report.restarts = TARGETS.restarts;
    expect(report.problems(TARGETS.minutes)).toEqual([]);
    expect(report.progress(61_000)).toMatch(/^1:01 \| 206 blows \(200 kills and hangs, 100 restarts\)/);
  });
});
