import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KvSlots } from '../../../gpu-origin/engine/kv-cache-manager.ts';

/** Which row's KV is where, and how long; refuses what a runner refuses. */
function memory(slots: number, swapSlots: number) {
  const held: (number | null)[] = Array.from({ length: slots + swapSlots }, () => null);
  let assigned = 0;
  const free = (slot: number): void => {
    if (slot < 0 || slot >= held.length || held[slot] !== null) throw new Error(`slot ${slot} is not free`);
  };
  const used = (slot: number): number => {
    const length = held[slot];
    if (length === null || length === undefined) throw new Error(`slot ${slot} is empty`);
    return length;
  };
  return {
    held,
    runner: {
      slots,
      swapSlots,
      kvTokens: 100,
      assign: (slot: number) => {
        free(slot);
        held[slot] = 1_000 + assigned++;
      },
      move: (from: number, to: number, length: number) => {
        free(to);
        expect(used(from)).toBe(length);
        held[to] = used(from);
        held[from] = null;
      },
      release: (slot: number) => {
        used(slot);
        held[slot] = null;
      },
    },
  };
}

interface Row {
  length: number;
  reckonedTokens: number;
}
const row = (length: number, reckonedTokens = 0): Row => ({ length, reckonedTokens });

describe('KvSlots', () => {
  it('has memory for all rows as estimated, including preempted ones, and for a single one', () => {
    const slots = new KvSlots<Row>(memory(3, 1).runner);
    expect(slots.hasMemoryFor(row(0, 101))).toBe(true);
    const [first, second] = [row(1_000, 60), row(1_001, 30)];
    slots.enter(first, null);
    expect([40, 41].map((tokens) => slots.hasMemoryFor(row(0, tokens)))).toEqual([true, false]);
    slots.join();
    slots.enter(second, null);
    slots.swapOut(first);
    expect([10, 11].map((tokens) => slots.hasMemoryFor(row(0, tokens)))).toEqual([true, false]);
    // It has its memory already.
    expect(slots.hasMemoryFor(first)).toBe(true);
    slots.leave(first);
    expect([70, 71].map((tokens) => slots.hasMemoryFor(row(0, tokens)))).toEqual([true, false]);
  });

  it('keeps decode rows without gaps, and every row, even preempted, with its own memory', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 0, max: 4 }),
        fc.array(
          fc.tuple(
            fc.constantFrom(
              ...['enter', 'join', 'leave', 'drop', 'preempt', 'preempt prompt'],
              ...['resume', 'resume prompt', 'forget'],
            ),
            fc.nat(10),
          ),
          { maxLength: 80 },
        ),
        (count, swapSlots, actions) => {
          const { held, runner } = memory(count, swapSlots);
          const slots = new KvSlots<Row>(runner);
          const preempted: Row[] = [];
          let made = 0;
          for (const [action, pick] of actions) {
            const entering = slots.prefilling?.row ?? null;
            if (action === 'enter' && entering === null && !slots.full) {
              // Its length names it, so that `move` can be checked.
              slots.enter(row(1_000 + made++), null);
            } else if (action === 'join' && entering !== null) slots.join();
            else if (action === 'leave' && slots.rows.length > 0)
              slots.leave(slots.rows[pick % slots.rows.length]!);
            else if (action === 'drop' && entering !== null) slots.leave(entering);
            else if (action === 'preempt' && slots.rows.length > 0 && !slots.swapFull) {
              const one = slots.rows[pick % slots.rows.length]!;
              slots.swapOut(one);
              preempted.push(one);
            } else if (action === 'preempt prompt' && entering !== null && !slots.swapFull) {
              slots.swapOut(entering);
              preempted.push(entering);
            } else if (
              action.startsWith('resume') &&
              preempted.length > 0 &&
              !slots.full &&
              entering === null
            )
              slots.swapIn(
                preempted.splice(pick % preempted.length, 1)[0]!,
                action === 'resume' ? 'decode' : 'prefill',
              );
            else if (action === 'forget' && preempted.length > 0)
              slots.leave(preempted.splice(pick % preempted.length, 1)[0]!);

            slots.rows.forEach((row, slot) => expect(held[slot]).toBe(row.length));
            const { prefilling } = slots;
            if (prefilling !== null) {
              expect(prefilling.slot).toBeGreaterThanOrEqual(slots.rows.length);
              expect(held[prefilling.slot]).toBe(prefilling.row.length);
            }
            const lengthsOf = (from: number, to?: number) =>
              held.slice(from, to).filter((length) => length !== null);
            expect(lengthsOf(0, count)).toHaveLength(slots.running);
            expect(lengthsOf(count).sort()).toEqual(preempted.map(({ length }) => length).sort());
            expect([slots.preempted, slots.swapFull]).toEqual([
              preempted.length,
              preempted.length === swapSlots,
            ]);
            expect(slots.full).toBe(slots.running === count);
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it('refuses a row when it is full or another one is in prefill', () => {
    const slots = new KvSlots<Row>(memory(2, 1).runner);
    slots.enter(row(1_000), null);
    expect(() => slots.enter(row(1), null)).toThrow('no slot');
    slots.join();
    slots.enter(row(1_001), null);
    slots.join();
    expect(() => slots.enter(row(1), null)).toThrow('no slot');
    expect(() => slots.join()).toThrow('no row');
    slots.leave(row(7));
    expect(slots.running).toBe(2);
    const [first, second] = slots.rows;
    expect(() => slots.swapIn(first!, 'decode')).toThrow('cannot come back');
    slots.swapOut(first!);
    expect(() => slots.swapOut(second!)).toThrow('cannot be preempted');
    slots.enter(row(1_002), null);
    expect(() => slots.swapIn(first!, 'decode')).toThrow('cannot come back');
  });
});
