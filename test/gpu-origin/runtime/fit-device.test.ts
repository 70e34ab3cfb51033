import fc from 'fast-check';
import { expect, it } from 'vitest';
import { BaseModelError } from '../../../gpu-origin/model/base-model.ts';
import {
  ASSUMED_BYTES,
  fitDevice,
  type FitParams,
  fittingRows,
  prefixShare,
} from '../../../gpu-origin/runtime/memory-plan.ts';
import { makeTinyRunner } from '../../fixtures/tiny-runner.ts';

/** SmolLM2-135M: 383 MB per session in int8, 1.2 GB in float32; 46,080 bytes per token and row. */
const WASM: FitParams = {
  addressableBytes: 2 ** 32,
  sharesWeights: false,
  sessionBytes: 383e6,
  tokenBytes: 20 * 46_080,
  most: 8_192,
  asked: undefined,
};

it('changes nothing if the device addresses as much as the process', () => {
  const native = { ...WASM, addressableBytes: null, sharesWeights: true };
  expect(fitDevice(native)).toEqual({
    kinds: ['none', 'qv', 'all'],
    context: 8_192,
    notice: null,
    spare: true,
  });
  expect(fitDevice({ ...native, asked: 512 }).context).toBe(512);
  expect(fitDevice({ ...native, asked: 100_000 }).context).toBe(8_192);
});

it('shortens the context of 16 rows until all three graphs and all rows fit', () => {
  expect(fitDevice(WASM)).toEqual({
    kinds: ['none', 'qv', 'all'],
    context: 2_176,
    notice:
      'this provider addresses 4.3 GB, so a row has 2,176 of the 8,192 tokens that the base was trained for; fewer --slots leave room for more',
    spare: true,
  });
});

it('takes one graph for all rows where three leave too little', () => {
  const float32 = { ...WASM, sessionBytes: 1.2e9 };
  // Nor is there room for the weights of one more session, which rows that adapt the embedding need.
  expect(fitDevice(float32)).toMatchObject({ kinds: ['all'], context: 2_176, spare: false });
  expect(fitDevice({ ...WASM, asked: 2_304 })).toMatchObject({ kinds: ['all'], context: 2_304, spare: true });
});

it('refuses what does not fit, and suggests what would', () => {
  expect(() => fitDevice({ ...WASM, asked: 8_192 })).toThrow(
    /addresses 4\.3 GB, where the base leaves only 3072 tokens a row\. Use fewer --slots, a shorter --context,/,
  );
  expect(() => fitDevice({ ...WASM, sessionBytes: 4e9 })).toThrow(
    /leaves only 0 tokens a row\. Use fewer --slots, --weights int8, a smaller base or --provider cpu/,
  );
});

it('assumes some memory of a GPU that reports none, and refuses nothing', () => {
  const gpu = { ...WASM, addressableBytes: ASSUMED_BYTES, assumed: true };
  expect(fitDevice(gpu)).toEqual({
    kinds: ['none', 'qv', 'all'],
    context: 2_176,
    notice:
      "the GPU's memory size is unknown, so a row has 2,176 of the 8,192 tokens that the base was trained for, which fits 4.3 GB; --context 8192 allows more",
    spare: true,
  });
  expect(fitDevice({ ...gpu, asked: 8_192 })).toEqual({
    ...{ kinds: ['none', 'qv', 'all'], context: 8_192, notice: null, spare: true },
  });
  expect(fitDevice({ ...gpu, sessionBytes: 9e9 })).toMatchObject({ kinds: ['all'], context: 256 });
});

it('never exceeds what the device addresses, nor the requested context', () => {
  const sizes = fc.record({
    sessionBytes: fc.integer({ min: 1e6, max: 3e9 }),
    tokenBytes: fc.integer({ min: 1_000, max: 1e7 }),
    most: fc.integer({ min: 16, max: 1e5 }),
    asked: fc.option(fc.integer({ min: 16, max: 1e5 }), { nil: undefined }),
  });
  fc.assert(
    fc.property(sizes, (given) => {
      let fit;
      try {
        fit = fitDevice({ ...WASM, ...given });
      } catch (error) {
        expect(error).toBeInstanceOf(BaseModelError);
        return;
      }
      const held = given.sessionBytes * fit.kinds.length + given.tokenBytes * fit.context;
      expect(held).toBeLessThanOrEqual(2 ** 32);
      if (fit.spare) expect(held + given.sessionBytes).toBeLessThanOrEqual(2 ** 32);
      expect(fit.kinds).toContain('all');
      if (given.asked !== undefined) expect(fit.context).toBe(Math.min(given.asked, given.most));
    }),
  );
});

const GB = 1e9;
/** Bytes of a token's keys and values, and of the base in int8. */
const SMOLLM2 = { tokenBytes: 46_080, serving: 1.0 * GB };
const LLAMA_1B = { tokenBytes: 65_536, serving: 4.3 * GB };
const QWEN3_4B = { tokenBytes: 294_912, serving: 10.4 * GB };
/** The default of `--adapter-ram-bytes`. */
const ADAPTERS = 2 ** 30;

it.each([
  // base, GB of memory, context -> rows, tokens together
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 1, context: 8_192, slots: 4, tokens: 8_192 },
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 2, context: 8_192, slots: 4, tokens: 8_192 },
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 4, context: 8_192, slots: 12, tokens: 25_248 },
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 4, context: 512, slots: 49, tokens: 25_248 },
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 8, context: 8_192, slots: 40, tokens: 82_214 },
  { what: 'SmolLM2-135M', base: SMOLLM2, memory: 24, context: 8_192, slots: 64, tokens: 310_079 },
  { what: 'Llama 3.2 1B', base: LLAMA_1B, memory: 8, context: 131_072, slots: 12, tokens: 24_762 },
  { what: 'Llama 3.2 1B', base: LLAMA_1B, memory: 16, context: 131_072, slots: 51, tokens: 104_870 },
  { what: 'Qwen3-4B', base: QWEN3_4B, memory: 16, context: 40_960, slots: 4, tokens: 9_730 },
])('$what on $memory GB, $context tokens a row: $slots rows', ({ base, memory, context, slots, tokens }) => {
  const given = {
    available: memory * GB,
    taken: base.serving + ADAPTERS + prefixShare(memory * GB - base.serving),
    tokenBytes: base.tokenBytes,
    context,
  };
  expect(fittingRows({ ...given, mostRows: 1_000 })).toEqual({ slots, tokens });
});

it.each([
  { what: 'by the memory', prefixBytes: null, memoryBytes: 9e9, at: 1.1e9 },
  { what: 'by the memory, where there is little', prefixBytes: null, memoryBytes: 2e9, at: 2 ** 28 },
  { what: 'as told', prefixBytes: 10e6, memoryBytes: 9e9, at: 10e6 },
  { what: 'not at all', prefixBytes: 0, memoryBytes: 9e9, at: 0 },
])('keeps chunks of prompts $what', async ({ prefixBytes, memoryBytes, at }) => {
  const { runner, close } = await makeTinyRunner({ prefixBytes, memoryBytes, slots: 2 });
  const bytes = runner.blocks * runner.blockBytes;
  expect(bytes).toBeLessThanOrEqual(at);
  expect(bytes).toBeGreaterThanOrEqual(0.9 * at);
  await close();
});

it('uses the requested rows, and admits them as their tokens fit', () => {
  const given = { available: 4e9, taken: 3e9, tokenBytes: 50_000, context: 8_192, mostRows: 1_000 };
  expect(fittingRows(given)).toEqual({ slots: 7, tokens: 15_000 });
  expect(fittingRows({ ...given, slots: 200 })).toEqual({ slots: 200, tokens: 15_000 });
});

it('takes no more rows than can be allocated, as many preempted among them', () => {
  const given = { available: 100e9, taken: 3e9, tokenBytes: 50_000, context: 8_192 };
  expect(fittingRows({ ...given, mostRows: 25 }).slots).toBe(12);
  // From Node 22 on an array may have 2 ** 53 - 1 bytes.
  for (const rowBytes of [1, 768 * 512, 768 * 4_096, 768 * 8_192])
    expect(fittingRows({ ...given, mostRows: Math.floor((2 ** 53 - 1) / rowBytes) }).slots).toBe(64);
});

it("is a runner's default, and the operator is told", async () => {
  const told: string[] = [];
  const onMemory = (message: string): number => told.push(message);
  const roomy = await makeTinyRunner({ slots: undefined, memoryBytes: 8e9, onMemory });
  const scarce = await makeTinyRunner({ slots: undefined, memoryBytes: 8e9, adapterBytes: 8e9, onMemory });
  const asked = await makeTinyRunner({ slots: 3, memoryBytes: 8e9, adapterBytes: 8e9, onMemory });
  const had = [roomy, scarce, asked].map(({ runner }) => [runner.slots, runner.swapSlots, runner.kvTokens]);
  // The tiny base has 512 tokens per row.
  expect(had).toEqual([
    [64, 64, 128 * 512],
    [4, 4, 4 * 512],
    [3, 3, 4 * 512],
  ]);
  expect(told.map((message) => /\((\d+ rows [^)]*)\)/.exec(message)?.[1])).toEqual([
    '64 rows of 512 tokens, and as many preempted',
    '4 rows of up to 512 tokens, and as many preempted, 2,048 tokens in total',
    '3 rows of up to 512 tokens, and as many preempted, 2,048 tokens in total',
  ]);
  for (const { close } of [roomy, scarce, asked]) await close();
});
