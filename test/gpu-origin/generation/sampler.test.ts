import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  peak,
  topIds,
  Sampler,
  scoreToken,
  seededRandom,
  GREEDY,
  type SamplingParams,
} from '../../../gpu-origin/generation/sampler.ts';

const never = (): number => {
  throw new Error('must not draw');
};

function randomLogits(seed: number, length: number, spread: number): Float32Array {
  const random = seededRandom(seed);
  return Float32Array.from({ length }, () => (random() + random() + random() - 1.5) * spread);
}

/** The definition, by sorting everything: candidates with their probabilities, likeliest first. */
function candidates(logits: Float32Array, params: SamplingParams): { id: number; probability: number }[] {
  let all = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b);
  const max = logits[all[0]!]!;
  const share = (id: number): number => Math.exp((logits[id]! - max) / params.temperature);
  all = all.filter((id) => share(id) >= params.minP * (1 - 1e-8));
  if (params.topK !== null) all = all.slice(0, params.topK);
  const weights = all.map((id) => Math.exp((logits[id]! - max) / params.temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  let cumulative = 0;
  const kept: { id: number; probability: number }[] = [];
  for (const [place, id] of all.entries()) {
    kept.push({ id, probability: weights[place]! / total });
    cumulative += weights[place]! / total;
    if (params.topP < 1 && cumulative >= params.topP) break;
  }
  const mass = kept.reduce((sum, token) => sum + token.probability, 0);
  return kept.map(({ id, probability }) => ({ id, probability: probability / mass }));
}

describe('peak', () => {
  it.each([1, 2, 3, 4, 5, 7, 8, 64, 4_099])(
    'finds the largest of %i logits, the first among equals',
    (length) => {
      for (let at = 0; at < Math.min(length, 9); at += 1) {
        const logits = new Float32Array(length + 2).fill(-3);
        logits[0] = 99;
        logits[1 + at] = -1;
        if (at + 2 < length) logits[1 + at + 1] = -1;
        expect(peak(logits, 1, length)).toEqual({ id: at, max: -1 });
      }
    },
  );

  it('sees NaN and both infinities at every place', () => {
    for (const bad of [NaN, Infinity, -Infinity])
      for (let at = 0; at < 11; at += 1) {
        const logits = new Float32Array(11).fill(3e38);
        logits[at] = bad;
        expect(peak(logits, 0, 11)).toBeNull();
      }
    const both = Float32Array.of(Infinity, -Infinity, 1);
    expect(peak(both, 0, 3)).toBeNull();
    expect(peak(new Float32Array(5_000).fill(3.4e38), 0, 5_000)?.id).toBe(0);
  });
});

describe('topIds', () => {
  it('agrees with sorting', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 1, maxLength: 60 }),
        fc.integer({ min: 0, max: 70 }),
        (values, count) => {
          const logits = Float32Array.from(values);
          const sorted = [...values.keys()].sort((a, b) => values[b]! - values[a]! || a - b);
          expect(topIds(logits, 0, logits.length, count)).toEqual(sorted.slice(0, count));
        },
      ),
    );
  });
});

describe('Sampler', () => {
  it('is greedy at temperature 0 and at top_k 1, without a draw', () => {
    const logits = randomLogits(1, 500, 10);
    const best = topIds(logits, 0, 500, 1)[0];
    expect(new Sampler(GREEDY, never).sample(logits, 0, 500)).toEqual({ id: best, logprob: null, top: [] });
    expect(new Sampler({ ...GREEDY, temperature: 1.5, topK: 1 }, never).sample(logits, 0, 500)?.id).toBe(
      best,
    );
  });

  it('draws what sorting, truncating and accumulating draws', () => {
    fc.assert(
      fc.property(
        fc.record({
          seed: fc.integer(),
          length: fc.integer({ min: 2, max: 400 }),
          spread: fc.constantFrom(0, 0.01, 1, 10, 60),
          temperature: fc.double({ min: 0.05, max: 2, noNaN: true }),
          topK: fc.option(fc.integer({ min: 2, max: 500 })),
          minP: fc.oneof(
            fc.constant(0),
            fc.constantFrom(5e-324, 1e-20, 1),
            fc.double({ min: 0, max: 1, noNaN: true }),
          ),
          // Nearer to 1 the two sums round to other sets of tokens.
          topP: fc.oneof(fc.constant(1), fc.double({ min: 0.001, max: 0.999_999, noNaN: true })),
          // The last one that there is: rounding carries it past the end.
          draw: fc.oneof(
            { weight: 4, arbitrary: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }) },
            { weight: 1, arbitrary: fc.constant(1 - 2 ** -53) },
          ),
        }),
        ({ seed, length, spread, temperature, topK, topP, minP, draw }) => {
          const logits = randomLogits(seed, length, spread);
          const params = { ...GREEDY, temperature, topK, topP, minP };
          const wanted = candidates(logits, params);
          const id = new Sampler(params, () => draw).sample(logits, 0, length)?.id;
          const place = wanted.findIndex((token) => token.id === id);
          expect(place).toBeGreaterThanOrEqual(0);
          // The draw lies in this token's stretch, up to the rounding of the two sums.
          const before = wanted.slice(0, place).reduce((sum, token) => sum + token.probability, 0);
          expect(draw).toBeGreaterThan(before - 1e-6);
          expect(draw).toBeLessThan(before + wanted[place]!.probability + 1e-6);
        },
      ),
      { numRuns: 1_200 },
    );
  });

  it('chooses from adjusted logits, and counts what it chose', () => {
    const logits = Float32Array.of(3, 2.5, 2.2, -1);
    const adjustments = { bias: [], repetition: 1, frequency: 0, presence: 1 };
    const sampler = new Sampler({ ...GREEDY, adjustments, logprobs: 1 }, never);
    const ids = Array.from({ length: 6 }, () => sampler.sample(logits, 0, 4)?.id);
    // Each is passed over once it was said, until all three are a whole point lower: then the likeliest stays.
    expect(ids).toEqual([0, 1, 2, 0, 0, 0]);
  });

  it('knows the prompt where a penalty is for it', () => {
    const logits = Float32Array.of(3, 2.5, -1);
    const adjustments = { bias: [], repetition: 2, frequency: 0, presence: 0 };
    expect(new Sampler({ ...GREEDY, adjustments }, never, [0]).sample(logits, 0, 3)?.id).toBe(1);
    expect(new Sampler({ ...GREEDY, adjustments }, never).sample(logits, 0, 3)?.id).toBe(0);
  });

  it("gives the model's own log-probabilities whatever a bias does", () => {
    const logits = randomLogits(4, 50, 6);
    const plain = new Sampler({ ...GREEDY, logprobs: 3 }, never).sample(logits, 0, 50)!;
    const adjustments = { bias: [[7, 100] as const], repetition: 1, frequency: 0, presence: 0 };
    const biased = new Sampler({ ...GREEDY, adjustments, logprobs: 3 }, never).sample(logits, 0, 50)!;
    expect(biased.id).toBe(7);
    expect(biased.top).toEqual(plain.top);
    expect(biased.logprob).toBeLessThan(plain.logprob!);
    const bad = Float32Array.of(1, NaN);
    expect(new Sampler({ ...GREEDY, adjustments }, never).sample(bad, 0, 2)).toBeNull();
  });

  it('survives a draw of almost 1 and extreme temperatures', () => {
    const logits = randomLogits(5, 1_000, 300);
    for (const temperature of [1e-5, 1e-3, 2])
      for (const topP of [1, 0.999_999])
        for (const draw of [0, 1 - 2 ** -53]) {
          const id = new Sampler({ ...GREEDY, temperature, topP }, () => draw).sample(logits, 0, 1_000)?.id;
          expect(id).toBeGreaterThanOrEqual(0);
        }
  });

  it('repeats with the same seed, and differs with another', () => {
    const logits = randomLogits(3, 300, 4);
    const run = (seed: number) => {
      const sampler = new Sampler({ ...GREEDY, temperature: 1, seed }, never);
      return Array.from({ length: 40 }, () => sampler.sample(logits, 0, 300)?.id);
    };
    for (const seed of [0, -1, 7, 2 ** 40, Number.MAX_SAFE_INTEGER]) expect(run(seed)).toEqual(run(seed));
    expect(run(1)).not.toEqual(run(2));
    // Only the high half differs.
    expect(run(2 ** 32)).not.toEqual(run(2 ** 33));
  });

  it('reads its own row only', () => {
    const logits = new Float32Array(30).fill(NaN);
    for (let id = 0; id < 10; id += 1) logits[10 + id] = id === 4 ? 2 : 1;
    expect(new Sampler({ ...GREEDY, logprobs: 2 }, never).sample(logits, 10, 10)?.id).toBe(4);
    expect(new Sampler(GREEDY, never).sample(logits, 9, 10)).toBeNull();
  });

  it('gives log-probabilities before temperature and truncation', () => {
    const logits = randomLogits(9, 700, 12);
    const exact = Math.log(logits.reduce((sum, value) => sum + Math.exp(value), 0));
    const params = { ...GREEDY, temperature: 0.3, topK: 3, logprobs: 5 };
    const sample = new Sampler(params, () => 0.5).sample(logits, 0, 700)!;
    expect(sample.logprob).toBeCloseTo(logits[sample.id]! - exact, 7);
    expect(sample.top.map((token) => token.id)).toEqual(topIds(logits, 0, 700, 5));
    for (const { id, logprob } of sample.top) expect(logprob).toBeCloseTo(logits[id]! - exact, 7);
    expect(new Sampler({ ...GREEDY, logprobs: 0 }, never).sample(logits, 0, 700)?.top).toEqual([]);
    expect(scoreToken({ logits, offset: 0, length: 700, id: 3, count: 0 })?.logprob).toBeCloseTo(
      logits[3]! - exact,
      7,
    );
  });
});

describe('seededRandom', () => {
  it('is uniform enough to draw with', () => {
    const random = seededRandom(42);
    const counts = new Array<number>(10).fill(0);
    for (let draw = 0; draw < 20_000; draw += 1) counts[Math.floor(random() * 10)]! += 1;
    for (const count of counts) expect(Math.abs(count - 2_000)).toBeLessThan(250);
  });
});
