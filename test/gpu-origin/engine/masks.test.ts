/** Masks of rows that are held to grammars, when the step beside which they are found fails. */
import { expect, it } from 'vitest';
import { Engine } from '../../../gpu-origin/engine/engine.ts';
import type { Grammar } from '../../../gpu-origin/engine/ports.ts';
import { seededRandom } from '../../../gpu-origin/generation/sampler.ts';
import { FakeRunner } from '../../../gpu-origin/runtime/fake-runner.ts';
import { collect, letters, MemorySource, request, TestClock } from './harness.ts';

it('are found one step after the other, and no row is closed meanwhile', async () => {
  let busy = false;
  const wrong: string[] = [];
  let fails = true;
  const runner = new FakeRunner({
    slots: 1,
    duringStep: ({ kind }) => {
      if (kind === 'decode' && fails) throw new Error('no memory is left');
    },
  });
  const engine = new Engine({
    ...{ runner, source: new MemorySource(), clock: new TestClock(), tokens: letters, eosTokenIds: [0] },
    ...{ random: seededRandom(1), maxQueue: 8, adapterBudgetBytes: 1_000 },
    masks: {
      async update() {
        if (busy) wrong.push('two at once');
        busy = true;
        for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
        busy = false;
      },
    },
  });
  const grammar: Grammar = {
    open: () => ({
      mask: new Int32Array(2).fill(-1),
      failure: null,
      accept: () => undefined,
      close() {
        if (busy) wrong.push('closed');
      },
    }),
    release: () => undefined,
  };
  const handles = await Promise.all([1, 2].map(() => engine.add(request({ grammar }))));
  const ends = await Promise.all(
    handles.map(async (added) => {
      if (!added.ok) throw new Error(added.error.message);
      const { final } = await collect(added.value);
      fails = false;
      return final.kind;
    }),
  );
  expect(ends).toEqual(['error', 'end']);
  expect(wrong).toEqual([]);
  await engine.close();
});
