/** Rows that are held to grammars, whose masks come in time, late or never. */
import { describe, expect, it } from 'vitest';
import type { EngineHandle } from '../../../gpu-origin/engine/engine.ts';
import type { Grammar, GrammarMasks, RowGrammar } from '../../../gpu-origin/engine/ports.ts';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import type { FakeStep } from '../fake-runner.ts';
import { collect, gate, generate, request, rig, start, until } from './harness.ts';

/** Masks that let every token through, and come when the test says so. */
class TestMasks implements GrammarMasks {
  /** No step waits for them. */
  slow = true;
  /** They come by themselves. */
  inTime = false;
  readonly #asked: (() => void)[] = [];

  get asked(): number {
    return this.#asked.length;
  }

  readonly grammar: Grammar = {
    open: (): RowGrammar & { ready: boolean } => {
      const row = {
        ready: false,
        mask: new Int32Array(2).fill(-1),
        failure: null,
        accept: () => void (row.ready = false),
        close: () => undefined,
      };
      return row;
    },
    release: () => undefined,
  };

  update(rows: readonly RowGrammar[]) {
    const { opened, open } = gate();
    const done = opened.then(() => {
      for (const row of rows) (row as { ready: boolean }).ready = true;
    });
    if (this.inTime) open();
    else this.#asked.push(open);
    return [{ done, slow: this.slow }];
  }

  /** The oldest masks that were asked for are there. */
  come(): void {
    this.#asked.shift()?.();
  }
}

const TOKENS = 12;
const sampling = { ...GREEDY, maxTokens: TOKENS, ignoreEos: true };

function masked() {
  const masks = new TestMasks();
  const steps: FakeStep[] = [];
  const built = rig({ masks, runner: { slots: 4, chunk: 4, duringStep: (step) => void steps.push(step) } });
  const held = (changes = {}): Promise<EngineHandle> =>
    start(built.engine, { prompt: [7, 7, 7, 7, 7], grammar: masks.grammar, sampling, ...changes });
  return { ...built, masks, steps, held };
}

describe('a row whose mask is late', () => {
  it('sits out while others get all their tokens, and then gets its own as if alone', async () => {
    const { engine, masks, held } = masked();
    masks.inTime = true;
    const alone = await collect(await held());
    masks.inTime = false;
    const late = collect(await held());
    await until(() => masks.asked === 1);
    const beside = await generate(engine, { sampling });
    expect(beside.ids).toHaveLength(TOKENS);
    expect(masks.asked).toBe(1);
    // One mask for one token of the other row, or for several.
    const other = collect(await start(engine, { sampling: { ...sampling, maxTokens: 200 } }));
    for (let token = 0; token < TOKENS; token += 1) {
      await until(() => masks.asked === 1);
      masks.come();
    }
    expect((await late).ids).toEqual(alone.ids);
    expect((await other).ids).toHaveLength(200);
    expect((await other).ids.slice(0, TOKENS)).toEqual(beside.ids);
    await engine.close();
  });

  it('lets others decode in the slots before and behind it', async () => {
    const { engine, masks, steps, held, runner } = masked();
    const long = { ...sampling, maxTokens: 100 };
    const before = collect(await start(engine, { sampling: long }));
    await until(() => steps.some(({ kind }) => kind === 'decode'));
    const late = collect(await held());
    await until(() => masks.asked === 1);
    const behind = await generate(engine, { prompt: [9, 9], sampling });
    expect(behind.ids).toHaveLength(TOKENS);
    masks.inTime = true;
    masks.come();
    expect((await late).final.kind).toBe('end');
    expect((await before).ids).toHaveLength(100);
    expect(runner.misuses).toEqual([]);
    await engine.close();
  });

  it('holds up everything if it is the only one: nothing runs until its mask arrives', async () => {
    const { engine, masks, steps, held } = masked();
    const late = collect(await held());
    await until(() => masks.asked === 1);
    for (let token = 0; token < TOKENS; token += 1) {
      await until(() => masks.asked === 1);
      const before = steps.length;
      for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
      // The step that asked for it may still have run.
      expect(steps.length - before).toBeLessThanOrEqual(1);
      masks.come();
    }
    expect((await late).ids).toHaveLength(TOKENS);
    // Two chunks of the prompt give the first token, a step each of the others.
    expect(steps.filter(({ kind }) => kind === 'decode')).toHaveLength(TOKENS - 1);
    await engine.close();
  });

  it('is aborted, and passes its deadline, while it waits', async () => {
    const { engine, clock, masks, held } = masked();
    const [gone, over] = [await held(), await held({ budgetMs: 1_000 })];
    const ends = Promise.all([collect(gone), collect(over)]);
    await until(() => masks.asked === 2);
    gone.abort();
    await until(() => engine.stats().running === 1 && clock.timers.size > 0);
    clock.advance(1_000);
    const [{ final: aborted }, { final: late }] = await ends;
    expect(aborted.kind).toBe('aborted');
    expect(late).toMatchObject({ kind: 'error', error: { code: 'deadline_exceeded' } });
    masks.come();
    masks.come();
    expect((await generate(engine)).final.kind).toBe('end');
    await engine.close();
  });

  it('is preempted for another tenant at once, and returns', async () => {
    const { engine, masks, held, runner } = masked();
    const rows = await Promise.all([1, 2, 3, 4].map(() => held({ tenant: 'slow' })));
    const ends = rows.map((row) => collect(row));
    await until(() => masks.asked === 4);
    expect(engine.stats()).toMatchObject({ running: 4, preempted: 0 });
    expect((await generate(engine, { tenant: 'other', sampling })).ids).toHaveLength(TOKENS);
    masks.inTime = true;
    for (let row = 0; row < 4; row += 1) masks.come();
    for (const end of ends) expect((await end).ids).toHaveLength(TOKENS);
    expect(runner.misuses).toEqual([]);
    await engine.close();
  });
});

describe('a mask that is not known to be slow', () => {
  it('is waited for until the clock says that it is late', async () => {
    const { engine, clock, masks, steps, held } = masked();
    masks.slow = false;
    const late = collect(await held());
    await until(() => masks.asked === 1 && clock.timers.size === 1);
    const other = collect(await start(engine, { sampling }));
    const before = steps.length;
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(steps).toHaveLength(before);
    clock.advance(5);
    expect((await other).ids).toHaveLength(TOKENS);
    masks.inTime = true;
    masks.come();
    expect((await late).ids).toHaveLength(TOKENS);
    await engine.close();
  });
});

it('a step that fails ends its rows whatever their masks do, and the next ones go on', async () => {
  const masks = new TestMasks();
  let fails = true;
  const { engine } = rig({
    masks,
    runner: {
      slots: 1,
      duringStep: ({ kind }) => {
        if (kind === 'decode' && fails) throw new Error('no memory is left');
      },
    },
  });
  masks.inTime = true;
  const handles = await Promise.all([1, 2].map(() => engine.add(request({ grammar: masks.grammar }))));
  const ends = await Promise.all(
    handles.map(async (added) => {
      if (!added.ok) throw new Error(added.error.message);
      const { final } = await collect(added.value);
      fails = false;
      return final.kind;
    }),
  );
  expect(ends).toEqual(['error', 'end']);
  await engine.close();
});
