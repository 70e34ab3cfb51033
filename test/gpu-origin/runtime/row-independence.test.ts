import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RowDelta } from '../../../gpu-origin/engine/ports.ts';
import type { KvFormat } from '../../../gpu-origin/runtime/kv-cache.ts';
import { ortLibrary } from '../../../gpu-origin/runtime/native/native-device.ts';
import { TINY_QWEN3MOE, TINY_SHAPES } from '../../fixtures/tiny-base.ts';
import { argmax, makeTinyRunner, prefillAll, type TinyRunner } from '../../fixtures/tiny-runner.ts';

const ALL = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
const prompt = (row: number, length: number): number[] =>
  Array.from({ length }, (_, i) => (i * i * 31 + row * 7 + i) % 259);

type Ways = 'together' | 'in groups' | 'by turns';
const WAYS: Record<Ways, (step: number) => boolean> = {
  together: () => false,
  'in groups': () => true,
  'by turns': (step) => step % 2 === 0,
};

/**
 * Rows run together on all cores, in groups with a core each, or alternating; in three groups for one base. Keys and
 * values in float32 beside one format of weights, and for one base beside both.
 */
const CASES = (['int8', 'int4'] as const).flatMap((weights) =>
  Object.entries({ ...TINY_SHAPES, qwen3moe: TINY_QWEN3MOE }).flatMap(([name, shape], index) => {
    const each: Ways[] = index === 0 ? ['in groups', 'by turns', 'together'] : ['by turns'];
    const formats: KvFormat[] = index === 0 || weights === 'int8' ? ['int8', 'f32'] : ['int8'];
    return formats.flatMap((kv) =>
      each.map((ways) => ({
        ...{ weights, kv, name, shape, ways },
        threads: ways === 'in groups' ? 3 : 2,
      })),
    );
  }),
);

describe.each(CASES)('a row in a batch ($weights, keys and values in $kv), $name, $ways', (each) => {
  const { weights, kv, shape, ways, threads } = each;
  let tiny: TinyRunner;
  /** By rank: base, q and v of ranks 3, 8 and 40, everything of rank 20, a chain. */
  let deltas: (RowDelta | null)[];
  const lengths = [5, 128, 130, 64, 1, 200, 17, 90];

  beforeAll(async () => {
    let steps = 0;
    const laneChoice = { takesLanes: () => WAYS[ways](steps++), took: () => {} };
    tiny = await makeTinyRunner({ slots: 8, shape, weights, threads, kv, laneChoice, prefixBytes: 2 ** 20 });
    expect(tiny.runner.base.kv ?? 'f32').toBe(kv);
    const [three, eight, forty, everything] = await Promise.all([
      tiny.adapter('three', { seed: 1, rank: 3, alpha: 3, targets: ['q_proj', 'v_proj'] }),
      tiny.adapter('eight', { seed: 2, rank: 8, alpha: 16, targets: ['q_proj', 'v_proj'] }),
      tiny.adapter('forty', { seed: 3, rank: 40, alpha: 10, targets: ['q_proj', 'v_proj'] }),
      tiny.adapter('everything', { seed: 4, rank: 20, alpha: 5, targets: ALL, size: 0.2 }),
    ]);
    const compose = (...members: Parameters<TinyRunner['runner']['compose']>[0]): RowDelta =>
      tiny.runner.compose(members);
    deltas = [
      null,
      compose({ adapter: three, scale: 1 }),
      compose({ adapter: eight, scale: 1 }),
      compose({ adapter: forty, scale: 0.5 }),
      compose({ adapter: everything, scale: 1 }),
      compose({ adapter: everything, scale: 1 }, { adapter: eight, scale: 1 }),
      null,
      compose({ adapter: eight, scale: -1 }),
    ];
  });
  afterAll(() => tiny.close());

  /**
   * Decodes the given rows together, greedily.
   * @returns per row the logits of every step.
   */
  async function together(rows: readonly number[], steps: number): Promise<Map<number, Float32Array[]>> {
    const { runner } = tiny;
    const seen = new Map<number, Float32Array[]>();
    const held: number[] = [];
    const next: number[] = [];
    for (const [slot, row] of rows.entries()) {
      runner.assign(slot, deltas[row] ?? null);
      const tokens = prompt(row, lengths[row]!);
      const last = (await prefillAll(runner, slot, tokens))[0]!;
      seen.set(row, [last]);
      held.push(tokens.length);
      next.push(argmax(last));
    }
    for (let step = 0; step < steps; step++) {
      const logits = await runner.decode({ tokens: next, lengths: held });
      rows.forEach((row, slot) => {
        const mine = logits.slice(slot * runner.vocabSize, (slot + 1) * runner.vocabSize);
        seen.get(row)!.push(mine);
        next[slot] = argmax(mine);
        held[slot]!++;
      });
    }
    rows.forEach((_, slot) => runner.release(slot));
    return seen;
  }

  it('has the same bits alone and with all others, in any order and with any neighbours', async () => {
    const all = [0, 1, 2, 3, 4, 5, 6, 7];
    const alone = new Map<number, Float32Array[]>();
    for (const row of all) alone.set(row, (await together([row], 6)).get(row)!);
    for (const rows of [all, [...all].reverse(), [0, 1], [0, 4], [6, 2, 1], [5, 3]]) {
      const mixed = await together(rows, 6);
      for (const row of rows)
        expect(mixed.get(row), `row ${row} among ${rows.join()}`).toEqual(alone.get(row));
    }
  });

  it('keeps its bits when its neighbours leave, one per step, and it moves to other groups', async () => {
    const { runner } = tiny;
    const all = [0, 1, 2, 3, 4, 5, 6, 7];
    const expected = new Map<number, Float32Array[]>();
    for (const row of all) expected.set(row, (await together([row], all.length)).get(row)!);
    const rows: { row: number; held: number; logits: Float32Array }[] = [];
    for (const row of all) {
      runner.assign(row, deltas[row] ?? null);
      const logits = (await prefillAll(runner, row, prompt(row, lengths[row]!)))[0]!;
      rows.push({ row, held: lengths[row]!, logits });
    }
    for (let step = 1; rows.length > 0; step++) {
      const tokens = rows.map(({ logits }) => argmax(logits));
      const logits = await runner.decode({ tokens, lengths: rows.map(({ held }) => held) });
      for (const [slot, row] of rows.entries()) {
        row.logits = logits.slice(slot * runner.vocabSize, (slot + 1) * runner.vocabSize);
        row.held += 1;
        expect(row.logits, `row ${row.row}, step ${step}`).toEqual(expected.get(row.row)![step]);
      }
      // The first one leaves, and the last one takes its slot: from the last group into the first.
      runner.release(0);
      const last = rows.pop()!;
      if (rows.length > 0) {
        runner.move(rows.length, 0, last.held);
        rows[0] = last;
      }
    }
  });

  it('keeps its bits when it sits out steps, and so do its neighbours', async () => {
    const { runner } = tiny;
    const all = [0, 1, 2, 3, 4, 5, 6, 7];
    const steps = 6;
    const expected = new Map<number, Float32Array[]>();
    for (const row of all) expected.set(row, (await together([row], steps)).get(row)!);
    const rows: { row: number; held: number; logits: Float32Array; step: number }[] = [];
    for (const row of all) {
      runner.assign(row, deltas[row] ?? null);
      const logits = (await prefillAll(runner, row, prompt(row, lengths[row]!)))[0]!;
      rows.push({ row, held: lengths[row]!, logits, step: 0 });
    }
    for (let step = 0; step < steps; step++) {
      const out = rows.map(({ row }) => row !== 7 && (row + step) % 3 === 0);
      const logits = await runner.decode({
        tokens: rows.map(({ logits: before }, slot) => (out[slot] === true ? null : argmax(before))),
        lengths: rows.map(({ held }) => held),
      });
      for (const [slot, row] of rows.entries()) {
        if (out[slot] === true) continue;
        row.logits = logits.slice(slot * runner.vocabSize, (slot + 1) * runner.vocabSize);
        row.held += 1;
        row.step += 1;
        expect(row.logits, `row ${row.row}, token ${row.step}`).toEqual(expected.get(row.row)![row.step]);
      }
    }
    for (const row of all) runner.release(row);
  });

  it('keeps its bits when it moves to another slot between steps', async () => {
    const { runner } = tiny;
    const expected = (await together([2], 4)).get(2)!;
    runner.assign(5, deltas[2]!);
    let logits = (await prefillAll(runner, 5, prompt(2, lengths[2]!)))[0]!;
    expect(logits).toEqual(expected[0]);
    runner.move(5, 0, lengths[2]!);
    for (let step = 1; step <= 4; step++) {
      const held = lengths[2]! + step - 1;
      logits = (await runner.decode({ tokens: [argmax(logits)], lengths: [held] })).slice();
      expect(logits).toEqual(expected[step]);
      if (step !== 2) continue;
      runner.move(0, 3, held + 1);
      runner.move(3, 0, held + 1);
    }
    runner.release(0);
  });

  it('has the same bits as a fully read prompt after reusing another row’s chunks', async () => {
    const { runner } = tiny;
    expect(runner.blocks).toBeGreaterThanOrEqual(2);
    for (const row of [0, 2, 5]) {
      const delta = deltas[row] ?? null;
      const tokens = prompt(row, 300).slice(0, runner.base.context - 8);
      const whole = Math.floor((tokens.length - 1) / runner.chunk);
      runner.assign(0, delta);
      for (let chunk = 0; chunk < whole; chunk++) {
        const at = chunk * runner.chunk;
        const part = tokens.slice(at, at + runner.chunk);
        await runner.prefill({ slot: 0, tokens: part, past: at, positions: [] });
        runner.keep({ slot: 0, at, block: chunk, tokens: runner.chunk });
      }
      const past = whole * runner.chunk;
      const rest = tokens.slice(past);
      const last = { tokens: rest, past, positions: [rest.length - 1] };
      let read = (await runner.prefill({ slot: 0, ...last })).slice();
      runner.assign(3, delta);
      for (let chunk = 0; chunk < whole; chunk++)
        runner.reuse({ slot: 3, at: chunk * runner.chunk, block: chunk, tokens: runner.chunk });
      const reused = await runner.prefill({ slot: 3, ...last });
      expect(reused.slice()).toEqual(read);
      const next = { tokens: [argmax(read)], lengths: [tokens.length] };
      read = (await runner.decode(next)).slice();
      runner.release(0);
      runner.move(3, 0, tokens.length);
      expect((await runner.decode(next)).slice()).toEqual(read);
      runner.release(0);
    }
  });

  it('has the same bits if a chunk is read in parts, with steps in between', async () => {
    const { runner } = tiny;
    expect(runner.parts).toBeGreaterThan(1);
    for (const row of [0, 2, 3, 5]) {
      const tokens = prompt(row, 140);
      const positions = [3, 11];
      const beside = (await together([7], runner.parts)).get(7)!;
      runner.assign(0, deltas[row] ?? null);
      const wanted = await prefillAll(runner, 0, tokens, [128 + 3, 128 + 11]);
      const after = (await runner.decode({ tokens: [5], lengths: [140] })).slice();
      runner.release(0);
      runner.assign(0, deltas[7]!);
      const neighbour = [(await prefillAll(runner, 0, prompt(7, lengths[7]!)))[0]!];
      runner.assign(1, deltas[row] ?? null);
      await runner.prefill({ slot: 1, tokens: tokens.slice(0, 128), past: 0, positions: [] });
      const rest = { slot: 1, tokens: tokens.slice(128), past: 128, positions };
      let read = new Float32Array(0);
      for (let part = 0; part < runner.parts; part++) {
        expect(read).toHaveLength(0);
        read = (await runner.prefill({ ...rest, parts: { from: part, to: part + 1 } })).slice();
        const held = lengths[7]! + neighbour.length - 1;
        const logits = await runner.decode({ tokens: [argmax(neighbour.at(-1)!)], lengths: [held] });
        neighbour.push(logits.slice());
      }
      expect(read).toEqual(Float32Array.from([...wanted[0]!, ...wanted[1]!]));
      expect(neighbour).toEqual(beside);
      runner.release(0);
      runner.move(1, 0, tokens.length);
      expect((await runner.decode({ tokens: [5], lengths: [140] })).slice()).toEqual(after);
      runner.release(0);
    }
  });

  it('has the same bits if rows decode in the run that reads its chunk, and so have they', async () => {
    const { runner } = tiny;
    expect(runner.mixes).toBe(true);
    const all = [0, 1, 2, 3, 4, 5, 6, 7];
    const steps = 5;
    const expected = new Map<number, Float32Array[]>();
    for (const row of all) expected.set(row, (await together([row], steps)).get(row)!);
    for (const [reading, ...beside] of [
      [5, 0],
      [2, 7],
      [3, 4, 6],
      [0, 1, 2, 3, 4, 5, 6, 7],
      [4, 0, 1, 6],
      [1, 6, 0],
    ] as const) {
      const tokens = prompt(reading, 256 + lengths[reading]!).slice(0, runner.base.context - 8);
      runner.assign(0, deltas[reading] ?? null);
      const positions = [3, 127, 129, tokens.length - 1];
      const wanted = await prefillAll(runner, 0, tokens, positions);
      const last = argmax(wanted.at(-1)!);
      wanted.push((await runner.decode({ tokens: [last], lengths: [tokens.length] })).slice());
      runner.release(0);
      const rows: { row: number; held: number; logits: Float32Array[] }[] = [];
      for (const [slot, row] of beside.entries()) {
        runner.assign(slot, deltas[row] ?? null);
        const logits = (await prefillAll(runner, slot, prompt(row, lengths[row]!)))[0]!;
        rows.push({ row, held: lengths[row]!, logits: [logits] });
      }
      const slot = beside.length;
      runner.assign(slot, deltas[reading] ?? null);
      const read: Float32Array[] = [];
      for (let past = 0, step = 0; past < tokens.length; past += runner.chunk, step++) {
        const chunk = tokens.slice(past, past + runner.chunk);
        const here = positions.filter((at) => at >= past && at < past + chunk.length);
        // The first of several sits out the second step.
        const out = rows.map((_, at) => at === 0 && rows.length > 1 && step === 1);
        const logits = await runner.prefill({
          ...{ slot, tokens: chunk, past, positions: here.map((at) => at - past) },
          beside: {
            tokens: rows.map((row, at) => (out[at] === true ? null : argmax(row.logits.at(-1)!))),
            lengths: rows.map(({ held }) => held),
          },
        });
        const of = (at: number) => logits.slice(at * runner.vocabSize, (at + 1) * runner.vocabSize);
        expect(logits).toHaveLength((here.length + rows.length) * runner.vocabSize);
        here.forEach((_, at) => read.push(of(at)));
        for (const [at, row] of rows.entries()) {
          if (out[at] === true) continue;
          row.logits.push(of(here.length + at));
          row.held += 1;
        }
      }
      // What was read is decoded behind, and rows beside go on from what they decoded.
      const after = await runner.decode({
        tokens: [...rows.map((row) => argmax(row.logits.at(-1)!)), last],
        lengths: [...rows.map(({ held }) => held), tokens.length],
      });
      for (const [at, { logits }] of [...rows, { logits: read }].entries())
        logits.push(after.slice(at * runner.vocabSize, (at + 1) * runner.vocabSize));
      expect(read, `the prompt of row ${reading}`).toEqual(wanted);
      for (const { row, logits } of rows)
        expect(logits, `row ${row} beside row ${reading}`).toEqual(
          expected.get(row)!.slice(0, logits.length),
        );
      for (const at of [...rows.keys(), slot]) runner.release(at);
    }
  });

  it('keeps its bits when it is preempted while others use its slot, and returns in another one', async () => {
    const { runner } = tiny;
    const [mine, other] = [4, 3];
    const expected = (await together([mine], 6)).get(mine)!;
    const expectedOfOther = (await together([other], 6)).get(other)!;
    const prefill = async (slot: number, row: number): Promise<Float32Array> => {
      runner.assign(slot, deltas[row]!);
      return (await prefillAll(runner, slot, prompt(row, lengths[row]!)))[0]!;
    };
    const decode = async (rows: { logits: Float32Array; held: number }[]): Promise<void> => {
      const tokens = rows.map(({ logits }) => argmax(logits));
      const all = await runner.decode({ tokens, lengths: rows.map(({ held }) => held) });
      for (const [slot, row] of rows.entries()) {
        row.logits = all.slice(slot * runner.vocabSize, (slot + 1) * runner.vocabSize);
        row.held += 1;
      }
    };
    const first = { logits: await prefill(0, mine), held: lengths[mine]! };
    await decode([first]);
    await decode([first]);
    const place = runner.slots + runner.swapSlots - 1;
    runner.move(0, place, first.held);
    const second = { logits: await prefill(0, other), held: lengths[other]! };
    await decode([second]);
    runner.move(place, 1, first.held);
    for (let step = 3; step <= 6; step++) {
      await decode([second, first]);
      expect(first.logits).toEqual(expected[step]);
      expect(second.logits).toEqual(expectedOfOther[step - 1]);
    }
    runner.release(0);
    runner.release(1);
  });

  it('depends on its delta: base and adapters answer differently', async () => {
    const [base, eight, everything] = [null, deltas[2]!, deltas[4]!];
    const answers = [];
    for (const delta of [base, eight, everything]) {
      tiny.runner.assign(0, delta);
      answers.push((await prefillAll(tiny.runner, 0, prompt(0, 40)))[0]!);
      tiny.runner.release(0);
    }
    expect(answers[0]).not.toEqual(answers[1]);
    expect(answers[1]).not.toEqual(answers[2]);
  });
});

// Three graphs, each over all cores and over one, in two parts, and mixed. Over int8, prompts are read by others, whole.
it.each([
  ['f32', 15],
  ['int8', 18],
] as const)('releases every object of the library, with keys and values in %s', async (kv, sessions) => {
  const before = new Map(ortLibrary().alive);
  const tiny = await makeTinyRunner({ slots: 2, kv });
  const adapter = await tiny.adapter('attention');
  tiny.runner.assign(0, tiny.runner.compose([{ adapter, scale: 1 }]));
  await prefillAll(tiny.runner, 0, prompt(0, 140));
  await tiny.runner.decode({ tokens: [1], lengths: [140] });
  await tiny.runner.decode({ tokens: [1, 2], lengths: [141, 0] });
  tiny.runner.assign(1, null);
  await tiny.runner.prefill({ slot: 1, tokens: [1, 2], past: 0, positions: [], parts: { from: 0, to: 1 } });
  const beside = { tokens: [3], lengths: [142] };
  await tiny.runner.prefill({ slot: 1, tokens: [1, 2], past: 0, positions: [], beside });
  expect(ortLibrary().alive.get('session')).toBe((before.get('session') ?? 0) + sessions);
  await tiny.close();
  for (const [kind, count] of ortLibrary().alive)
    expect([kind, count]).toEqual([kind, before.get(kind) ?? 0]);
});
