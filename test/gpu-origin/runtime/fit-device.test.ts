import fc from 'fast-check';
import { expect, it } from 'vitest';
import { BaseModelError } from '../../../gpu-origin/model/base-model.ts';
import { ASSUMED_BYTES, fitDevice, type FitParams } from '../../../gpu-origin/runtime/fit-device.ts';

/** SmolLM2-135M: 383 MB a session in int8, 1.2 GB in float32; 46,080 bytes a token and row. */
const WASM: FitParams = {
  addressableBytes: 2 ** 32,
  sharesWeights: false,
  sessionBytes: 383e6,
  tokenBytes: 20 * 46_080,
  most: 8_192,
  asked: undefined,
};

it('leaves all as it is where the device addresses what the process does', () => {
  const native = { ...WASM, addressableBytes: null, sharesWeights: true };
  expect(fitDevice(native)).toEqual({ kinds: ['none', 'qv', 'all'], context: 8_192, notice: null });
  expect(fitDevice({ ...native, asked: 512 }).context).toBe(512);
  expect(fitDevice({ ...native, asked: 100_000 }).context).toBe(8_192);
});

it('shortens the context of 16 rows until all three graphs and all rows fit', () => {
  expect(fitDevice(WASM)).toEqual({
    kinds: ['none', 'qv', 'all'],
    context: 2_176,
    notice:
      'this provider addresses 4.3 GB, so a row has 2,176 tokens, of 8,192 that the base was trained for; fewer --slots leave room for more',
  });
});

it('takes one graph for all rows where three leave too little', () => {
  const float32 = { ...WASM, sessionBytes: 1.2e9 };
  expect(fitDevice(float32)).toMatchObject({ kinds: ['all'], context: 2_176 });
  expect(fitDevice({ ...WASM, asked: 2_304 })).toEqual({ kinds: ['all'], context: 2_304, notice: null });
});

it('refuses what does not fit, and says what would', () => {
  expect(() => fitDevice({ ...WASM, asked: 8_192 })).toThrow(
    /addresses 4\.3 GB, in which the base leaves room for 3072 tokens a row: fewer --slots, a shorter --context,/,
  );
  expect(() => fitDevice({ ...WASM, sessionBytes: 4e9 })).toThrow(
    /room for 0 tokens a row: fewer --slots, --weights int8, a smaller base or --provider cpu/,
  );
});

it('takes some memory for granted of a GPU that does not say, and refuses nothing', () => {
  const gpu = { ...WASM, addressableBytes: ASSUMED_BYTES, assumed: true };
  expect(fitDevice(gpu)).toEqual({
    kinds: ['none', 'qv', 'all'],
    context: 2_176,
    notice:
      'how much memory the GPU has is not known, so a row has 2,176 tokens, of 8,192 that the base was trained for, which fits 4.3 GB; --context 8192 takes more',
  });
  expect(fitDevice({ ...gpu, asked: 8_192 })).toEqual({
    ...{ kinds: ['none', 'qv', 'all'], context: 8_192, notice: null },
  });
  expect(fitDevice({ ...gpu, sessionBytes: 9e9 })).toMatchObject({ kinds: ['all'], context: 256 });
});

it('never takes more than the device addresses, nor another context than was asked for', () => {
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
      expect(fit.kinds).toContain('all');
      if (given.asked !== undefined) expect(fit.context).toBe(Math.min(given.asked, given.most));
    }),
  );
});
