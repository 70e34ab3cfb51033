import { expect, it } from 'vitest';
import type { ModelRunner, RowDelta } from '../../gpu-origin/engine/ports.ts';

const PROMPT = [5, 7, 9, 11];

/** What the engine may expect of chunks that are read in parts; a part of the runner's contract. */
export function itReadsInParts(params: {
  runner: () => ModelRunner;
  /** Two of them that change the output. */
  deltas: () => readonly [RowDelta, RowDelta];
  expectSame: (actual: readonly number[][], wanted: readonly number[][]) => void;
}): void {
  const { deltas, expectSame } = params;

  it('reads a chunk in parts, whose row may be released before the last', async () => {
    const runner = params.runner();
    const [delta, other] = deltas();
    const chunk = { slot: 0, tokens: PROMPT, past: 0, positions: [PROMPT.length - 1] };
    runner.assign(0, delta);
    const wanted = [...(await runner.prefill(chunk))];
    runner.release(0);
    if (runner.parts > 1) {
      runner.assign(0, other);
      expect(await runner.prefill({ ...chunk, parts: { from: 0, to: 1 } })).toHaveLength(0);
      runner.release(0);
    }
    runner.assign(0, delta);
    let read: number[] = [];
    for (let part = 0; part < runner.parts; part += 1)
      read = [...(await runner.prefill({ ...chunk, parts: { from: part, to: part + 1 } }))];
    expectSame([read], [wanted]);
    runner.release(0);
    expect(runner.doublingTokens).toBeGreaterThan(0);
  });

  it('decodes rows in the run that reads a chunk, if it mixes, as in steps of their own', async () => {
    const runner = params.runner();
    if (!runner.mixes) return;
    const [delta, other] = deltas();
    const rows = [delta, null, other];
    const { vocabSize } = runner;
    const rowsOf = (logits: Float32Array): number[][] =>
      Array.from({ length: logits.length / vocabSize }, (_, row) => [
        ...logits.subarray(row * vocabSize, (row + 1) * vocabSize),
      ]);
    /** Three rows whose prompts are read, and a fourth whose one is read while they decode, or before. */
    const run = async (mixed: boolean): Promise<number[][]> => {
      for (const [slot, own] of rows.entries()) {
        runner.assign(slot, own);
        await runner.prefill({ slot, tokens: PROMPT.slice(slot), past: 0, positions: [] });
      }
      runner.assign(3, delta);
      const chunk = { slot: 3, tokens: PROMPT, past: 0, positions: [0, 3] };
      const beside = { tokens: [1, 2, 3], lengths: [4, 3, 2] };
      const found = mixed
        ? rowsOf(await runner.prefill({ ...chunk, beside }))
        : [...rowsOf(await runner.prefill(chunk)), ...rowsOf(await runner.decode(beside))];
      const after = { tokens: [6, null, 8, 9], lengths: [5, 4, 3, 4] };
      const next = rowsOf(await runner.decode(after)).filter((_, row) => row !== 1);
      for (const slot of [0, 1, 2, 3]) runner.release(slot);
      return [...found, ...next];
    };
    expectSame(await run(true), await run(false));
  });

  it('gives the hidden states of a chunk with its last part', async () => {
    const runner = params.runner();
    const chunk = { slot: 0, tokens: PROMPT, past: 0 };
    runner.assign(0, deltas()[0]);
    const wanted = [...(await runner.hiddenStates(chunk))];
    runner.release(0);
    runner.assign(0, deltas()[0]);
    const read: number[][] = [];
    for (let part = 0; part < runner.parts; part += 1)
      read.push([...(await runner.hiddenStates({ ...chunk, parts: { from: part, to: part + 1 } }))]);
    expect(read.map(({ length }) => length)).toEqual(
      read.map((_, part) => (part === runner.parts - 1 ? PROMPT.length * runner.hiddenSize : 0)),
    );
    read.at(-1)!.forEach((value, at) => expect(Math.abs(value - wanted[at]!)).toBeLessThan(1e-3));
    runner.release(0);
  });
}
