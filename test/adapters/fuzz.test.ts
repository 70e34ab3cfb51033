import { describe, expect, it } from 'vitest';
import { packAdapter, readAdapter, writeSafetensors } from '../../adapters/index.ts';
import { makeFuzzInput, runFuzzInput } from './fuzz/fuzz-input.ts';
import { ATTENTION, SEED_FILES } from './fuzz/seed-files.ts';
import { BASE_ID, Q, refusal, tensor } from './make-adapter.ts';

/** `bench/fuzz-adapters.ts` runs the same by hand, for as long as one likes. */
const INPUTS = 4000;
const SEED = 20_261_125;

describe('hostile adapters', () => {
  it.each(SEED_FILES)('start from a valid file: $name', async (files) => {
    const packed = await packAdapter({ files, attention: ATTENTION, baseId: BASE_ID, parentChainId: null });
    expect(packed.modules.length).toBeGreaterThan(0);
  });

  it('are refused with a code or read, nothing else', async () => {
    const codes = new Map<string, number>();
    for (let index = 0; index < INPUTS; index++) {
      const code = await runFuzzInput(makeFuzzInput(SEED, index)).catch((error: unknown) => {
        throw new Error(`input ${index} of seed ${SEED}`, { cause: error });
      });
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    // The mutations are worth something only while they reach the rules behind the parsers.
    expect(codes.get('accepted')).toBeGreaterThan(INPUTS / 50);
    expect(codes.size).toBeGreaterThan(30);
  });

  it('are the same in every run', () => {
    expect(makeFuzzInput(1, 7)).toEqual(makeFuzzInput(1, 7));
    expect(makeFuzzInput(1, 7)).not.toEqual(makeFuzzInput(1, 8));
  });
});

describe('findings of the fuzzer', () => {
  it('does not transpose an empty matrix with a huge other size element by element', () => {
    const huge = (shape: number[]) => tensor(shape, []);
    const tensors = new Map([
      [`${Q}.lora_a`, huge([2 ** 34, 0])],
      [`${Q}.lora_b`, huge([0, 2 ** 34])],
    ]);
    const configJson = '{"fine_tune_type":"lora","lora_parameters":{"rank":2,"scale":1}}';
    refusal('shape_invalid', () => readAdapter({ weights: writeSafetensors({ tensors }), configJson }));
  });
});
