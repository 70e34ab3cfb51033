import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { itReadsInParts } from './chunk-parts.ts';
import { logProbabilities } from '../fixtures/tiny-runner.ts';
import type { BatchRows, ModelRunner, ResidentAdapter, RowDelta } from '../../gpu-origin/engine/ports.ts';

export interface ContractRunner {
  runner: ModelRunner;
  /**
   * A canonical file of an adapter that changes the output, of this rank in every linear that it has.
   * @param params.only of the linears, where there are several; all by default.
   */
  file(params: {
    seed: number;
    rank: number;
    only?: 'qv' | undefined;
  }): Promise<{ bytes: Uint8Array<ArrayBuffer>; digest: string }>;
  close(): Promise<void>;
}

/** Small prompts; the first is longer than a chunk of neither runner. */
const PROMPT = [5, 7, 9, 11];
/**
 * Largest difference of a log-probability where a runner promises a tolerance. Float32 products of other shapes sum in
 * another order: 2e-5 on the tiny bases.
 */
const TOLERANCE = 1e-4;
/** … in float16, whose sums differ in the fourth digit and then round to other int8: 0.073 on Mesa's lavapipe. */
const TOLERANCE_OF_HALVES = 0.15;

/**
 * What the engine may expect of every runner.
 * @param options.timeout of a test, ms: a driver that compiles shaders slowly needs more than others.
 * @param open at least sixteen slots and two swap slots, and a vocabulary of at least 64 tokens.
 */
export function describeModelRunner(name: string, open: () => Promise<ContractRunner>): void {
  describe(`a model runner (${name})`, () => {
    let opened: ContractRunner;
    let runner: ModelRunner;
    let small: ResidentAdapter;
    let big: ResidentAdapter;

    const load = async (seed: number, rank: number, only?: 'qv'): Promise<ResidentAdapter> => {
      const { bytes, digest } = await opened.file({ seed, rank, only });
      return runner.loadAdapter(bytes, digest);
    };
    const inHalves = (): boolean => runner.base.precision === 'f16';
    /** What a row of a batch takes for an adapter that lies in memory in float32. */
    const inBatch = ({ bytes }: ResidentAdapter): number => (inHalves() ? bytes / 2 : bytes);
    /** The same numbers, as exactly as the runner promises. */
    const expectSame = (actual: readonly number[][], wanted: readonly number[][]): void => {
      if (runner.base.promise !== 'tolerance') return expect(actual).toEqual(wanted);
      const tolerance = inHalves() ? TOLERANCE_OF_HALVES : TOLERANCE;
      expect(actual.map(({ length }) => length)).toEqual(wanted.map(({ length }) => length));
      for (const [row, logits] of actual.entries()) {
        const expected = logProbabilities(Float32Array.from(wanted[row]!));
        logProbabilities(Float32Array.from(logits)).forEach((value, id) =>
          expect(Math.abs(value - expected[id]!)).toBeLessThan(tolerance),
        );
      }
    };
    const compose = (...members: [ResidentAdapter, number][]): RowDelta =>
      runner.compose(members.map(([adapter, scale]) => ({ adapter, scale })));
    const batch = (rows: number, ...deltas: RowDelta[]): BatchRows => ({ rows, deltas });

    /** Reads the prompt into `slot`. @returns the logits behind its last token. */
    const prefill = async (slot: number, delta: RowDelta | null, tokens = PROMPT): Promise<number[]> => {
      runner.assign(slot, delta);
      let logits: number[] = [];
      for (let past = 0; past < tokens.length; past += runner.chunk) {
        const chunk = tokens.slice(past, past + runner.chunk);
        logits = [...(await runner.prefill({ slot, tokens: chunk, past, positions: [chunk.length - 1] }))];
      }
      return logits;
    };
    /** One step over slots 0 … tokens.length - 1. @returns each row's logits. */
    const decode = async (tokens: number[], lengths: number[]): Promise<number[][]> => {
      const logits = await runner.decode({ tokens, lengths });
      return tokens.map((_, row) => [...logits.slice(row * runner.vocabSize, (row + 1) * runner.vocabSize)]);
    };
    /** Row by row from the prompt, alone. @returns the logits after `token`. */
    const alone = async (delta: RowDelta | null, token: number): Promise<number[]> => {
      await prefill(0, delta);
      const [row] = await decode([token], [PROMPT.length]);
      runner.release(0);
      return row!;
    };

    beforeAll(async () => {
      opened = await open();
      ({ runner } = opened);
      small = await load(1, 4);
      big = await load(2, 64);
    });
    afterAll(() => opened.close());
    beforeEach(() => runner.trimBatch(batch(0)));

    it('refuses what is no adapter with an AdapterFormatError', async () => {
      await expect(runner.loadAdapter(new Uint8Array(0), 'd'.repeat(64))).rejects.toMatchObject({
        name: 'AdapterFormatError',
      });
    });

    it('says what adapters hold, in proportion to their rank', () => {
      expect([small.rank, big.rank]).toEqual([4, 64]);
      expect(big.bytes).toBe(16 * small.bytes);
    });

    it('shares the memory of a lone adapter, and counts copies of chains and of scaled ones', async () => {
      const odd = await load(3, 5);
      expect(compose([small, 1]).bytes).toBe(0);
      expect(compose([big, 1]).bytes).toBe(0);
      expect(compose([small, 0.5]).bytes).toBe(small.bytes);
      // 64 and 4 ranks side by side take the next bucket, 96; 5 take 8 from the beginning.
      expect(compose([big, 1], [small, 1])).toMatchObject({ rank: 96, bytes: 24 * small.bytes });
      expect(odd).toMatchObject({ rank: 5, bytes: 2 * small.bytes });
      expect(compose([odd, 1])).toMatchObject({ rank: 8, bytes: 0 });
      expect(compose([odd, 1], [small, 1])).toMatchObject({ rank: 16, bytes: 4 * small.bytes });
      runner.unloadAdapter(odd);
    });

    it('gives a row the logits it has alone, whatever its slot and whoever runs beside it', async () => {
      const deltas = [null, compose([small, 1]), compose([big, 1]), compose([small, 1], [big, 0.5])];
      const wanted: number[][] = [];
      for (const [index, delta] of deltas.entries()) wanted.push(await alone(delta, index + 1));
      for (const [slot, delta] of deltas.entries()) await prefill(slot, delta);
      const length = PROMPT.length;
      expectSame(await decode([1, 2, 3, 4], [length, length, length, length]), wanted);
      for (let slot = 3; slot >= 0; slot -= 1) runner.release(slot);
      expect(new Set(wanted.map((row) => row.join())).size).toBe(4);
    });

    it('gives 16 mixed rows what each has alone: base, deltas on q and v, on everything, and chains', async () => {
      const [some, more] = [await load(4, 8, 'qv'), await load(5, 40, 'qv')];
      const kinds = [
        null,
        compose([some, 1]),
        compose([small, 1]),
        compose([more, -0.5], [some, 1]),
        compose([small, 1], [more, 1], [big, 0.25]),
      ];
      const rows = Array.from({ length: 16 }, (_, row) => ({
        delta: kinds[(row * 3) % kinds.length]!,
        prompt: Array.from({ length: 1 + ((row * 7) % runner.chunk) }, (_, at) => ((at * row + at) % 60) + 1),
      }));
      const tokens = [3, 9, 6];
      const alone: number[][][] = [];
      for (const { delta, prompt } of rows) {
        await prefill(0, delta, prompt);
        const steps = [];
        for (const [step, token] of tokens.entries())
          steps.push(...(await decode([token], [prompt.length + step])));
        alone.push(steps);
        runner.release(0);
      }
      // Only rows without deltas, then with those on q and v too, then all: another graph each time.
      for (const kindsOfRows of [1, 2, kinds.length]) {
        const chosen = [...rows.keys()].filter((row) => kinds.indexOf(rows[row]!.delta) < kindsOfRows);
        for (const [slot, row] of chosen.entries()) await prefill(slot, rows[row]!.delta, rows[row]!.prompt);
        for (const [step, token] of tokens.entries()) {
          const lengths = chosen.map((row) => rows[row]!.prompt.length + step);
          const together = await decode(
            chosen.map(() => token),
            lengths,
          );
          expectSame(
            together,
            chosen.map((row) => alone[row]![step]!),
          );
        }
        for (let slot = chosen.length - 1; slot >= 0; slot -= 1) runner.release(slot);
      }
      runner.unloadAdapter(some);
      runner.unloadAdapter(more);
    });

    it('reads a long prompt in chunks, and gives the logits of the positions that are asked for', async () => {
      const long = Array.from({ length: runner.chunk + 3 }, (_, index) => (index % 60) + 1);
      const delta = compose([small, 1]);
      const last = await prefill(0, delta, long);
      runner.release(0);
      runner.assign(1, delta);
      const first = long.slice(0, runner.chunk);
      const none = await runner.prefill({ slot: 1, tokens: first, past: 0, positions: [] });
      expect(none).toHaveLength(0);
      const rest = long.slice(runner.chunk);
      const both = await runner.prefill({ slot: 1, tokens: rest, past: runner.chunk, positions: [0, 2] });
      expectSame([[...both.slice(runner.vocabSize)]], [last]);
      expect([...both.slice(0, runner.vocabSize)]).not.toEqual(last);
      runner.release(1);
    });

    it('gives a row another delta between two chunks: what it holds stays, what comes next has the new one', async () => {
      const delta = compose([small, 1]);
      const border = 2;
      const begin = async (slot: number, first: RowDelta | null): Promise<void> => {
        runner.assign(slot, first);
        await runner.prefill({ slot, tokens: PROMPT.slice(0, border), past: 0, positions: [] });
      };
      const goOn = async (slot: number, then: RowDelta | null): Promise<number[]> => {
        runner.changeDelta(slot, then);
        const tokens = PROMPT.slice(border);
        return [...(await runner.prefill({ slot, tokens, past: border, positions: [tokens.length - 1] }))];
      };
      const alone: number[][] = [];
      for (const [first, then] of [
        [null, delta],
        [delta, null],
        [delta, delta],
      ] as const) {
        await begin(0, first);
        alone.push(await goOn(0, then), (await decode([3], [PROMPT.length]))[0]!);
        runner.release(0);
      }
      expect(new Set(alone.map((row) => row.join())).size).toBe(6);
      // The same beside another row that decodes meanwhile, and from another slot.
      await prefill(0, compose([big, 1]));
      await begin(1, null);
      await decode([4], [PROMPT.length]);
      const beside = await goOn(1, delta);
      const [, next] = await decode([5, 3], [PROMPT.length + 1, PROMPT.length]);
      expectSame([beside, next!], alone.slice(0, 2));
      runner.release(1);
      runner.release(0);
    });

    const deltas = () => [compose([big, 1]), compose([small, 1])] as const;
    itReadsInParts({ runner: () => runner, deltas, expectSame });
    it('decodes a row that is alone between the chunks of other prompts as if nobody else were there', async () => {
      const [mine, other, third] = [compose([small, 1]), compose([big, 1]), compose([small, -1])];
      const wanted: number[][] = [];
      await prefill(0, mine);
      for (let step = 0; step < 4; step += 1)
        wanted.push(...(await decode([step + 1], [PROMPT.length + step])));
      runner.release(0);
      await prefill(0, mine);
      const long = Array.from({ length: 2 * runner.chunk }, (_, index) => (index % 60) + 1);
      let step = 0;
      for (const [slot, delta] of [[1, other] as const, [2, third] as const]) {
        runner.assign(slot, delta);
        for (const past of [0, runner.chunk]) {
          const tokens = long.slice(past, past + runner.chunk);
          await runner.prefill({ slot, tokens, past, positions: [] });
          expectSame(await decode([step + 1], [PROMPT.length + step]), [wanted[step]!]);
          step += 1;
        }
      }
      for (const slot of [2, 1, 0]) runner.release(slot);
    });

    it('gives the hidden states of a prompt, chunk by chunk, and keeps the row as if it had been read', async () => {
      const long = Array.from({ length: runner.chunk + 3 }, (_, index) => (index % 60) + 1);
      const size = runner.hiddenSize;
      for (const delta of [null, compose([big, 1])]) {
        runner.assign(0, delta);
        const chunks: number[] = [];
        for (const [from, to] of [[0, runner.chunk] as const, [runner.chunk, long.length] as const])
          chunks.push(...(await runner.hiddenStates({ slot: 0, tokens: long.slice(from, to), past: from })));
        expect(chunks).toHaveLength(long.length * size);
        const [after] = await decode([4], [long.length]);
        runner.release(0);
        await prefill(0, delta, long);
        expectSame(await decode([4], [long.length]), [after!]);
        runner.release(0);
        // Those of a token follow from what stands before it alone.
        runner.assign(1, delta);
        const some = await runner.hiddenStates({ slot: 1, tokens: long.slice(0, 3), past: 0 });
        // Of numbers whose mean square is 1.
        const tolerance = inHalves() ? 0.1 : 1e-3;
        some.forEach((value, at) => expect(Math.abs(value - chunks[at]!)).toBeLessThan(tolerance));
        runner.release(1);
      }
    });

    it('keeps a row where it is moved, swap slots included', async () => {
      const wanted = await alone(compose([big, 1]), 2);
      await prefill(1, compose([big, 1]));
      runner.move(1, runner.slots, PROMPT.length);
      await prefill(0, compose([small, 1]));
      await decode([3], [PROMPT.length]);
      runner.release(0);
      runner.move(runner.slots, 0, PROMPT.length);
      expectSame(await decode([2], [PROMPT.length]), [wanted]);
      runner.release(0);
    });

    it('lets a row sit steps out, and its neighbours do not notice', async () => {
      const deltas = [compose([small, 1]), null, compose([big, 1])];
      const wanted: number[][][] = [];
      for (const delta of deltas) {
        await prefill(0, delta);
        const steps = [];
        for (const step of [0, 1, 2]) steps.push(...(await decode([step + 1], [PROMPT.length + step])));
        wanted.push(steps);
        runner.release(0);
      }
      for (const [slot, delta] of deltas.entries()) await prefill(slot, delta);
      const seen: number[][][] = [[], [], []];
      for (const out of [1, 0, null]) {
        const tokens = seen.map(({ length }, slot) => (slot === out ? null : length + 1));
        const lengths = seen.map(({ length }) => PROMPT.length + length);
        const logits = await runner.decode({ tokens, lengths });
        for (const [slot, token] of tokens.entries())
          if (token !== null)
            seen[slot]!.push([...logits.slice(slot * runner.vocabSize, (slot + 1) * runner.vocabSize)]);
      }
      expect(seen.map(({ length }) => length)).toEqual([2, 2, 3]);
      for (const [slot, steps] of seen.entries()) expectSame(steps, wanted[slot]!.slice(0, steps.length));
      for (const slot of [2, 1, 0]) runner.release(slot);
    });

    it('needs for a batch each row padded to the largest rank, and nothing for one row or without deltas', () => {
      const [low, high] = [compose([small, 1]), compose([big, 1])];
      const bytes = (rows: number, ...deltas: RowDelta[]) => runner.batchBytes(batch(rows, ...deltas));
      expect([bytes(0), bytes(1, high), bytes(4)]).toEqual([0, 0, 0]);
      expect(bytes(2, low)).toBe(2 * inBatch(small));
      expect(bytes(2, low, low)).toBe(2 * inBatch(small));
      expect(bytes(2, low, high)).toBe(2 * inBatch(big));
      expect(bytes(4, high, low)).toBe(4 * inBatch(big));
      for (let rows = 2; rows <= runner.slots; rows += 1) {
        // Room for up to half as many again, never beyond the slots, never less for more.
        expect(bytes(rows, high)).toBeGreaterThanOrEqual(rows * inBatch(big));
        expect(bytes(rows, high)).toBeLessThanOrEqual(Math.min(runner.slots, 1.5 * rows) * inBatch(big));
        expect(bytes(rows, high)).toBeGreaterThanOrEqual(bytes(rows - 1, high));
      }
    });

    it('holds for its batches what it said, until it is trimmed', async () => {
      const [low, high] = [compose([small, 1]), compose([big, 1])];
      const length = PROMPT.length;
      expect(runner.batchHeldBytes).toBe(0);
      await prefill(0, low);
      await decode([1], [length]);
      expect(runner.batchHeldBytes).toBe(0);
      await prefill(1, high);
      const before = await decode([1, 2], [length + 1, length]);
      expect(runner.batchHeldBytes).toBe(runner.batchBytes(batch(2, low, high)));
      runner.release(1);
      await decode([3], [length + 2]);
      // Kept for the next batch; given back when somebody else needs it.
      expect(runner.batchHeldBytes).toBe(2 * inBatch(big));
      runner.trimBatch(batch(2, low, low));
      expect(runner.batchHeldBytes).toBe(2 * inBatch(small));
      runner.release(0);

      await prefill(0, low);
      await decode([1], [length]);
      await prefill(1, high);
      expectSame(await decode([1, 2], [length + 1, length]), before);
      expect(runner.batchHeldBytes).toBe(2 * inBatch(big));
      runner.release(1);
      runner.release(0);
      runner.trimBatch(batch(0));
      expect(runner.batchHeldBytes).toBe(0);
    });

    it('makes its buffers smaller by itself when less than half of their rank is needed', async () => {
      const [low, high] = [compose([small, 1]), compose([big, 1])];
      const length = PROMPT.length;
      await prefill(0, low);
      await prefill(1, high);
      await decode([1, 2], [length, length]);
      runner.release(1);
      await prefill(1, low);
      await decode([3, 4], [length + 1, length]);
      expect(runner.batchHeldBytes).toBe(2 * inBatch(small));
      runner.release(1);
      runner.release(0);
    });
  });
}
