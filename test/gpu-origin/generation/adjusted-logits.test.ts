import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LogitAdjustments, AdjustedLogits } from '../../../gpu-origin/generation/sampler.ts';

const NEUTRAL: LogitAdjustments = { bias: [], repetition: 1, frequency: 0, presence: 0 };
const row = (...logits: number[]): Float32Array => Float32Array.from(logits);
const adjust = (
  adjustments: Partial<LogitAdjustments>,
  logits: Float32Array,
  prompt: number[] = [],
  generated: number[] = [],
): number[] => {
  const adjusted = new AdjustedLogits({ ...NEUTRAL, ...adjustments }, prompt);
  for (const id of generated) adjusted.add(id);
  return [...adjusted.of(logits, 0, logits.length).subarray(0, logits.length)];
};

describe('AdjustedLogits', () => {
  it.each<[string, Partial<LogitAdjustments>, number[]]>([
    ['nothing', {}, [1, -2, 3, -4]],
    [
      'bias',
      {
        bias: [
          [0, -100],
          [3, 100],
        ] as const,
      },
      [-99, -2, 3, 96],
    ],
    // Token 2 is of the prompt, 0 and 1 were generated, 1 twice.
    ['repetition above 1', { repetition: 2 }, [0.5, -4, 1.5, -4]],
    ['repetition below 1', { repetition: 0.5 }, [2, -1, 6, -4]],
    ['frequency', { frequency: 0.5 }, [0.5, -3, 3, -4]],
    ['negative frequency', { frequency: -1 }, [2, 0, 3, -4]],
    ['presence', { presence: 0.5 }, [0.5, -2.5, 3, -4]],
    // ((1 + 3) / 2) - 1 * 0.5 - 0.25: bias first, then repetition, then the two penalties.
    [
      'all of them in order',
      { bias: [[0, 3]] as const, repetition: 2, frequency: 0.5, presence: 0.25 },
      [1.25, -5.25, 1.5, -4],
    ],
  ])('%s', (_what, adjustments, wanted) => {
    expect(adjust(adjustments, row(1, -2, 3, -4), [2], [0, 1, 1])).toEqual(wanted);
  });

  it('agrees with vLLM', () => {
    // vllm.model_executor.layers.utils.apply_penalties of vLLM 0.32.0 on logits with the bias added.
    const logits = row(
      ...[
        6.163984, -1.173716, -8.715158, 2.273725, -4.338089, -5.594382, 1.613387, 3.352105, -2.87703,
        -1.613374,
      ],
    );
    const wanted = [
      6.163984, 1.556798, -1.215158, 1.624089, -4.338089, -11.432134, 1.613387, 2.994361, -2.87703, -2.258724,
    ];
    const bias = [[2, 7.5] as const, [5, -3] as const];
    const adjustments = { bias, repetition: 1.4, presence: 0.7, frequency: -1.3 };
    const values = adjust(adjustments, logits, [3, 5, 5, 9], [1, 5, 1, 1, 7]);
    for (const [id, value] of values.entries()) expect(value).toBeCloseTo(wanted[id]!, 5);
  });

  it("leaves the model's logits as they are and reads its own row only", () => {
    const logits = row(9, 9, 1, 2, 9);
    const adjusted = new AdjustedLogits({ ...NEUTRAL, bias: [[1, 5]] }, []);
    expect([...adjusted.of(logits, 2, 2).subarray(0, 2)]).toEqual([1, 7]);
    expect([...logits]).toEqual([9, 9, 1, 2, 9]);
  });

  it('keeps two sequences apart', () => {
    const first = new AdjustedLogits({ ...NEUTRAL, presence: 1 }, []);
    const second = new AdjustedLogits({ ...NEUTRAL, presence: 1 }, []);
    first.add(0);
    expect([...first.of(row(0, 0), 0, 2).subarray(0, 2)]).toEqual([-1, 0]);
    expect([...second.of(row(0, 0), 0, 2).subarray(0, 2)]).toEqual([0, 0]);
  });

  it('is finite whatever is asked of it', () => {
    const extreme = fc.constantFrom(5e-324, 1e-300, 0.5, 1.5, 2);
    const penalty = fc.constantFrom(-2, -1e-300, 0, 2);
    fc.assert(
      fc.property(
        fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 3, maxLength: 9 }),
        extreme,
        penalty,
        penalty,
        fc.array(fc.nat(2), { maxLength: 50 }),
        (logits, repetition, frequency, presence, generated) => {
          const bias = [[0, 100] as const, [1, -100] as const];
          const values = adjust({ bias, repetition, frequency, presence }, row(...logits), [0, 2], generated);
          expect(values.every(Number.isFinite)).toBe(true);
        },
      ),
    );
  });
});
