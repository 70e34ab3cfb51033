import { expect, it } from 'vitest';
import { fittingRows } from '../../../gpu-origin/model/fitting-rows.ts';
import { makeTinyRunner } from '../../fixtures/tiny-runner.ts';

const GB = 1e9;
/** Bytes of a token's keys and values, and what the base takes in int8. */
const SMOLLM2 = { tokenBytes: 46_080, serving: 1.0 * GB };
const LLAMA_1B = { tokenBytes: 65_536, serving: 4.3 * GB };
const QWEN3_4B = { tokenBytes: 294_912, serving: 10.4 * GB };
/** `--adapter-ram-bytes` and `--prefix-cache-bytes` as they are by default. */
const BUDGETS = 1.25 * 2 ** 30;

it.each([
  // base, GB of memory, context -> rows, tokens together
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 1, context: 8_192, slots: 4, tokens: 8_192 },
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 2, context: 8_192, slots: 4, tokens: 8_192 },
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 4, context: 8_192, slots: 13, tokens: 26_982 },
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 4, context: 512, slots: 52, tokens: 26_982 },
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 8, context: 8_192, slots: 44, tokens: 92_086 },
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 24, context: 8_192, slots: 64, tokens: 352_503 },
  { what: 'Llama 3.2 1B', base: LLAMA_1B, memory: 8, context: 131_072, slots: 13, tokens: 26_983 },
  { what: 'Llama 3.2 1B', base: LLAMA_1B, memory: 16, context: 131_072, slots: 57, tokens: 118_535 },
  { what: 'Qwen3-4B', base: QWEN3_4B, memory: 16, context: 40_960, slots: 5, tokens: 10_828 },
])('$what on $memory GB, $context tokens a row: $slots rows', ({ base, memory, context, slots, tokens }) => {
  const given = {
    available: memory * GB,
    taken: base.serving + BUDGETS,
    tokenBytes: base.tokenBytes,
    context,
  };
  expect(fittingRows({ ...given, mostRows: 1_000 })).toEqual({ slots, tokens });
});

it('takes the rows that were asked for, and lets them in as their tokens fit', () => {
  const given = { available: 4e9, taken: 3e9, tokenBytes: 50_000, context: 8_192, mostRows: 1_000 };
  expect(fittingRows(given)).toEqual({ slots: 7, tokens: 15_000 });
  expect(fittingRows({ ...given, slots: 200 })).toEqual({ slots: 200, tokens: 15_000 });
});

it('takes no more rows than can be allocated, as many set aside among them', () => {
  const given = { available: 100e9, taken: 3e9, tokenBytes: 50_000, context: 8_192 };
  expect(fittingRows({ ...given, mostRows: 25 }).slots).toBe(12);
});

it('is what a runner has where nobody says how many, and the operator is told', async () => {
  const told: string[] = [];
  const onMemory = (message: string): number => told.push(message);
  const roomy = await makeTinyRunner({ slots: undefined, memoryBytes: 8e9, onMemory });
  const scarce = await makeTinyRunner({ slots: undefined, memoryBytes: 8e9, adapterBytes: 8e9, onMemory });
  const asked = await makeTinyRunner({ slots: 3, memoryBytes: 8e9, adapterBytes: 8e9, onMemory });
  const had = [roomy, scarce, asked].map(({ runner }) => [runner.slots, runner.parking, runner.kvTokens]);
  // The tiny base has 512 tokens a row.
  expect(had).toEqual([
    [64, 64, 128 * 512],
    [4, 4, 4 * 512],
    [3, 3, 4 * 512],
  ]);
  expect(told.map((message) => /\((\d+ rows [^)]*)\)/.exec(message)?.[1])).toEqual([
    '64 rows of 512 tokens, and as many set aside',
    '4 rows of up to 512 tokens, and as many set aside, 2,048 tokens together',
    '3 rows of up to 512 tokens, and as many set aside, 2,048 tokens together',
  ]);
  for (const { close } of [roomy, scarce, asked]) await close();
});
