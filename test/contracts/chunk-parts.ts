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
