import { describe, expect, it } from 'vitest';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { collect, gate, rig, start, until } from './harness.ts';

const sampling = (maxTokens: number) => ({ ...GREEDY, maxTokens, ignoreEos: true });
const prompt = (length: number): number[] => Array.from({ length }, (_, index) => (index % 63) + 1);

/** The steps of a run as `p<from row length>` and `d<rows>`. */
function recorder() {
  const steps: string[] = [];
  return {
    steps,
    duringStep: (step: { kind: string; rows: readonly { tokens: readonly number[] }[] }) => {
      const read = `p${step.rows[0]!.tokens.length}`;
      if (step.kind === 'mixed') steps.push(`${read}+d${step.rows.length - 1}`);
      else steps.push(step.kind === 'prefill' ? read : `d${step.rows.length}`);
    },
  };
}

describe('steps', () => {
  it.each([
    [1, ['p2', 'p8', 'd1', 'p16', 'd1', 'p20', 'd2', 'd2']],
    [2, ['p2', 'p8', 'd1', 'd1', 'p16', 'd1', 'd1', 'p20']],
  ])(
    '%i decode steps run between two turns of reading, and the borders of chunks stay',
    async (decodeStepsPerTurn, wanted) => {
      const { steps, duringStep } = recorder();
      const { engine } = rig({ decodeStepsPerTurn, runner: { duringStep } });
      const handles = [
        await start(engine, { prompt: prompt(2), sampling: sampling(12) }),
        await start(engine, { prompt: prompt(20), sampling: sampling(12) }),
      ];
      await Promise.all(handles.map(collect));
      expect(steps.slice(0, wanted.length)).toEqual(wanted);
    },
  );

  it('one row is in prefill at a time, and all slots fill', async () => {
    const { steps, duringStep } = recorder();
    const { engine, runner } = rig({ runner: { slots: 4, duringStep } });
    const handles = await Promise.all(
      Array.from({ length: 6 }, () => start(engine, { prompt: prompt(3), sampling: sampling(10) })),
    );
    await Promise.all(handles.map(collect));
    // Two prompts of 3 tokens share a turn of 8.
    expect(steps.slice(0, 6)).toEqual(['p3', 'p3', 'd2', 'p3', 'p3', 'd4']);
    expect(runner.misuses).toEqual([]);
  });

  it('reads a prompt in parts where rows decode, no more in a turn than a chunk at its beginning takes', async () => {
    const { steps, duringStep } = recorder();
    const seen: string[] = [];
    const { engine, runner } = rig({
      runner: { parts: 4, doublingTokens: 8, duringStep },
      observer: { onStep: ({ kind, tokens }) => seen.push(`${kind} ${tokens}`) },
    });
    const [short, long] = await Promise.all([
      start(engine, { prompt: prompt(2), sampling: sampling(30) }),
      start(engine, { prompt: prompt(24), sampling: sampling(4) }),
    ]);
    await Promise.all([collect(short!), collect(long!)]);
    // Behind 8 tokens a chunk costs twice as much, behind 16 three times: two and one of its four parts a turn.
    const turns = ['p2', 'p0', 'd1', 'p8', 'p8', 'd1', 'p8', 'd1', 'p16', 'p16', 'd1', 'p16', 'd1', 'p16'];
    expect(steps.slice(0, turns.length)).toEqual(turns);
    // Tokens count with the last part.
    const read = seen.filter((step) => step.startsWith('prefill') && step !== 'prefill 0');
    expect(read).toEqual(['prefill 2', 'prefill 8', 'prefill 8', 'prefill 8']);
    expect(runner.misuses).toEqual([]);
  });

  it('decodes in the runs that read chunks, but not beside short ones nor beside those that take long', async () => {
    const { steps, duringStep } = recorder();
    const seen: string[] = [];
    const { engine, runner } = rig({
      runner: { parts: 4, doublingTokens: 16, mixes: true, duringStep },
      observer: { onStep: ({ kind, batch, tokens }) => seen.push(`${kind} ${batch} ${tokens}`) },
    });
    const handles = await Promise.all([
      start(engine, { prompt: prompt(3), sampling: sampling(40) }),
      start(engine, { prompt: prompt(3), sampling: sampling(40) }),
      start(engine, { prompt: prompt(32), sampling: sampling(4) }),
      start(engine, { prompt: prompt(3), sampling: sampling(4) }),
    ]);
    await Promise.all(handles.map(collect));
    // Behind 16 tokens a chunk takes twice as long as at the beginning, behind 24 more than that.
    const wanted = [
      'p3',
      'p3',
      'd2',
      'p8+d2',
      'p16+d2',
      'p24+d2',
      'p24',
      'd2',
      'p24',
      'd2',
      'p24',
      'd2',
      'p32',
    ];
    expect(steps.slice(0, wanted.length)).toEqual(wanted);
    expect(seen.slice(2, 5)).toEqual(['decode 2 2', 'mixed 2 10', 'mixed 2 10']);
    expect(runner.misuses).toEqual([]);
  });

  it('answers the same where rows decode beside chunks, and an error of such a run ends all of its rows', async () => {
    const asked = Array.from({ length: 6 }, (_, index) => ({
      prompt: prompt(6 + 5 * index),
      sampling: sampling(3 + 4 * index),
    }));
    const answers = async (mixes: boolean): Promise<number[][]> => {
      const { steps, duringStep } = recorder();
      const { engine, runner } = rig({ runner: { parts: 4, mixes, duringStep } });
      const handles = await Promise.all(asked.map((each) => start(engine, each)));
      const ended = await Promise.all(handles.map(collect));
      expect(steps.some((step) => step.includes('+'))).toBe(mixes);
      expect(runner.misuses).toEqual([]);
      return ended.map(({ ids }) => ids);
    };
    expect(await answers(true)).toEqual(await answers(false));

    const { engine, runner } = rig({
      runner: {
        mixes: true,
        duringStep: ({ kind }) => {
          if (kind === 'mixed') throw new Error('broken');
        },
      },
    });
    const two = await Promise.all([3, 20].map((length) => start(engine, { prompt: prompt(length) })));
    const ends = await Promise.all(two.map(collect));
    expect(ends.map(({ final }) => final.kind)).toEqual(['error', 'error']);
    expect(runner.occupied).toEqual([]);
  });

  it('reads a whole chunk at once where nothing decodes', async () => {
    const { steps, duringStep } = recorder();
    const { engine } = rig({ runner: { parts: 4, doublingTokens: 8, duringStep } });
    await collect(await start(engine, { prompt: prompt(20), sampling: sampling(2) }));
    expect(steps).toEqual(['p8', 'p16', 'p20', 'd1']);
  });

  it('forgets a chunk that is half read when its request is aborted, and begins the next one', async () => {
    const hold = gate();
    let reading = 0;
    const { engine, runner } = rig({
      runner: {
        ...{ parts: 4, doublingTokens: 8 },
        duringStep: async ({ kind, rows }) => {
          if (kind === 'prefill' && rows[0]!.tokens.length === 8 && ++reading === 2) await hold.opened;
        },
      },
    });
    const short = await start(engine, { prompt: prompt(2), sampling: sampling(40) });
    const long = await start(engine, { prompt: prompt(24), sampling: sampling(4) });
    await until(() => reading === 2);
    long.abort();
    hold.open();
    const next = await start(engine, { prompt: prompt(20), sampling: sampling(3) });
    expect((await collect(long)).final.kind).toBe('aborted');
    expect((await collect(next)).ids).toHaveLength(3);
    expect((await collect(short)).ids).toHaveLength(40);
    expect(runner.misuses).toEqual([]);
    expect(runner.occupied).toEqual([]);
  });

  it('sleeps when there is nothing to do', async () => {
    const { engine, runner } = rig();
    await collect(await start(engine));
    const { steps } = runner;
    for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(runner.steps).toBe(steps);
  });

  it('tells the observer', async () => {
    const seen: string[] = [];
    const { engine } = rig({
      observer: {
        onStep: ({ kind, batch, tokens }) => seen.push(`${kind} ${batch} ${tokens}`),
        onFirstToken: () => seen.push('first'),
        onToken: () => seen.push('token'),
        onFinish: ({ outcome, promptTokens, completionTokens }) =>
          seen.push(`${outcome} ${promptTokens} ${completionTokens}`),
        onRefuse: ({ error }) => seen.push(error.code),
      },
    });
    await collect(await start(engine, { prompt: prompt(9), sampling: sampling(2) }));
    await engine.add({ ...(await import('./harness.ts')).request(), prompt: [] });
    expect(seen).toEqual([
      ...['prefill 1 8', 'first', 'prefill 1 1', 'token', 'length 9 2', 'decode 1 1', 'invalid_request'],
    ]);
  });
});

describe('fairness', () => {
  it('a tenant with 100 requests delays another one by its running row at most', async () => {
    const hold = gate();
    const finished: string[] = [];
    const { engine } = rig({
      runner: { slots: 2, duringStep: () => hold.opened },
      observer: { onFinish: ({ tenant }) => finished.push(tenant) },
    });
    const many = await Promise.all(
      Array.from({ length: 100 }, () => start(engine, { tenant: 'many', sampling: sampling(4) })),
    );
    await until(() => engine.stats().running > 0);
    const one = await start(engine, { tenant: 'one', sampling: sampling(4) });
    hold.open();
    await Promise.all([...many, one].map(collect));
    expect(finished.indexOf('one')).toBeLessThanOrEqual(3);
  });

  it('two tenants with unequal queues get equal shares while both wait', async () => {
    const hold = gate();
    const finished: string[] = [];
    const { engine } = rig({
      runner: { slots: 4, duringStep: () => hold.opened },
      observer: { onFinish: ({ tenant }) => finished.push(tenant) },
    });
    const handles = [];
    for (let index = 0; index < 60; index += 1)
      handles.push(await start(engine, { tenant: 'a', sampling: sampling(6) }));
    for (let index = 0; index < 20; index += 1)
      handles.push(await start(engine, { tenant: 'b', sampling: sampling(6) }));
    hold.open();
    await Promise.all(handles.map(collect));
    // Until b's last request, a and b take turns.
    const lastOfB = finished.lastIndexOf('b');
    const ofA = finished.slice(0, lastOfB).filter((tenant) => tenant === 'a').length;
    expect(Math.abs(ofA - 20)).toBeLessThanOrEqual(6);
  });

  it('counts long prompts and long answers', async () => {
    const hold = gate();
    const finished: string[] = [];
    const { engine } = rig({
      runner: { slots: 1, duringStep: () => hold.opened },
      observer: { onFinish: ({ tenant }) => finished.push(tenant) },
    });
    const handles = [];
    for (let index = 0; index < 6; index += 1)
      handles.push(await start(engine, { tenant: 'long', prompt: prompt(100), sampling: sampling(50) }));
    for (let index = 0; index < 20; index += 1)
      handles.push(await start(engine, { tenant: 'short', prompt: prompt(10), sampling: sampling(5) }));
    hold.open();
    await Promise.all(handles.map(collect));
    // 200 weighted tokens against 20: ten short answers for each long one.
    for (const [first, long] of [
      [12, 1],
      [22, 2],
    ] as const)
      expect(finished.slice(0, first).filter((tenant) => tenant === 'long')).toHaveLength(long);
  });
});
