import { describe, expect, it } from 'vitest';
import { FasterLately } from '../../../gpu-origin/runtime/lane-choice.ts';

/** @returns for each step whether it ran in groups. */
function steps(choice: FasterLately, count: number, ms: (lanes: boolean, rows: number) => number): boolean[] {
  return Array.from({ length: count }, () => {
    const lanes = choice.takesLanes(16);
    choice.took(ms(lanes, 16));
    return lanes;
  });
}
const share = (lanes: readonly boolean[]): number => lanes.filter(Boolean).length / lanes.length;

describe('whether rows run in groups', () => {
  it('is no where that is slower, and is tried in one step of sixteen', () => {
    expect(share(steps(new FasterLately(), 160, (lanes) => (lanes ? 22 : 20)))).toBe(1 / 16);
  });

  it('is yes where that is faster, and again no when it is not any more', () => {
    const choice = new FasterLately();
    expect(share(steps(choice, 160, (lanes) => (lanes ? 40 : 50)))).toBe(1 - 1 / 16 - 14 / 160);
    steps(choice, 160, (lanes) => (lanes ? 22 : 20));
    expect(share(steps(choice, 160, (lanes) => (lanes ? 22 : 20)))).toBe(1 / 16);
  });

  it('does not change where both take as long, or no time at all', () => {
    for (const ms of [20, 0]) expect(share(steps(new FasterLately(), 160, () => ms))).toBe(1 / 16);
  });

  it('is not told by steps over other rows', () => {
    const choice = new FasterLately();
    for (let step = 1; step <= 160; step++) {
      // Each trial is smaller than the step before it, and faster for that.
      const rows = step % 16 === 0 ? 4 : 16;
      expect(choice.takesLanes(rows)).toBe(step % 16 === 0);
      choice.took(rows);
    }
  });
});
