/** Rows are let in as there is memory for their keys and values. */
import { expect, it } from 'vitest';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { collect, generate, rig, start, until } from './harness.ts';

const prompt = (length: number): number[] => Array.from({ length }, (_, index) => 1 + (index % 20));
const sampling = (maxTokens: number | null) => ({ ...GREEDY, maxTokens, ignoreEos: true });

it.each([
  ['has fewer', 200],
  ['has more, and was passed often enough', 350],
])('a row that is preempted goes on, though one that finds no room beside it %s', async (_what, tokens) => {
  const { engine, runner } = rig({
    runner: { ...{ slots: 1, swapSlots: 1, context: 512, chunk: 8, kvTokens: 400 } },
  });
  const long = await start(engine, { tenant: 'alice', sampling: sampling(300) });
  await until(() => runner.steps > 260);
  const shorts = await Promise.all(
    [1, 2, 3].map(() => start(engine, { tenant: 'bob', sampling: sampling(20) })),
  );
  await until(() => engine.stats().preempted === 1);
  // Nobody was served less, and 303 tokens are held already.
  const waits = await start(engine, { tenant: 'carol', sampling: sampling(tokens) });
  const lengths = await Promise.all(
    [long, ...shorts, waits].map(async (handle) => (await collect(handle)).ids.length),
  );
  expect(lengths).toEqual([300, 20, 20, 20, tokens]);
  expect(runner.misuses).toEqual([]);
});

/** @param tokens that there is memory for. */
function rigOf(tokens: number) {
  const seen = { rows: 0, tokens: 0 };
  const built = rig({
    runner: {
      ...{ slots: 8, context: 256, chunk: 8, kvTokens: tokens },
      duringStep: ({ kind, rows }) => {
        if (kind !== 'decode') return;
        seen.rows = Math.max(seen.rows, rows.length);
        seen.tokens = Math.max(
          seen.tokens,
          rows.reduce((sum, row) => sum + row.tokens.length, 0),
        );
      },
    },
  });
  return { ...built, seen };
}

it('runs as many rows as fit with prompt and answer, and the rest behind them', async () => {
  const { engine, runner, seen } = rigOf(150);
  expect(engine.stats().kvCapacity).toBe(150);
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => generate(engine, { prompt: prompt(10), sampling: sampling(40) })),
  );
  for (const { ids } of answers) expect(ids).toHaveLength(40);
  expect(seen.rows).toBe(3);
  expect(seen.tokens).toBeLessThanOrEqual(150);
  expect(runner.misuses).toEqual([]);
});

it('runs every row at once where they are short', async () => {
  const { engine, seen } = rigOf(160);
  await Promise.all(
    Array.from({ length: 8 }, () => generate(engine, { prompt: prompt(4), sampling: sampling(16) })),
  );
  expect(seen.rows).toBe(8);
});

it('lets short ones pass a long one for a while, and a long one in when it is alone', async () => {
  const { engine, seen } = rigOf(100);
  const first = await start(engine, { prompt: prompt(10), sampling: sampling(50) });
  await until(() => engine.stats().running === 1);
  // Its answer may be all of the context, which is more than there is: it waits until nobody else has a row.
  const long = await start(engine, { prompt: prompt(60), sampling: sampling(null) });
  const ended: string[] = [];
  const all = [
    first,
    long,
    ...(await Promise.all([1, 2].map(() => start(engine, { sampling: sampling(10) })))),
  ];
  await Promise.all(
    all.map(async (handle, index) => {
      const { final } = await collect(handle);
      expect(final.kind).toBe('end');
      ended.push(['first', 'long', 'short', 'short'][index]!);
    }),
  );
  expect(ended).toEqual(['short', 'short', 'first', 'long']);
  // The last token is not fed.
  expect(seen.tokens).toBe(255);
});
