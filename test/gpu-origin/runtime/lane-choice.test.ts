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
  it('is no where that is slower or a little faster, and is tried in one step of 32', () => {
    for (const grouped of [22, 18])
      expect(share(steps(new FasterLately(), 640, (lanes) => (lanes ? grouped : 20)))).toBe(1 / 32);
  });

  it('is yes where that is faster, and again no when it is not any more', () => {
    const choice = new FasterLately();
    steps(choice, 640, (lanes) => (lanes ? 40 : 50));
    expect(share(steps(choice, 640, (lanes) => (lanes ? 40 : 50)))).toBe(1 - 1 / 32);
    // A little faster is enough to stay.
    expect(share(steps(choice, 640, (lanes) => (lanes ? 45 : 50)))).toBe(1 - 1 / 32);
    steps(choice, 640, (lanes) => (lanes ? 22 : 20));
    expect(share(steps(choice, 640, (lanes) => (lanes ? 22 : 20)))).toBe(1 / 32);
  });

  it('does not change where both take as long, or no time at all', () => {
    for (const ms of [20, 0]) expect(share(steps(new FasterLately(), 640, () => ms))).toBe(1 / 32);
  });

  it('is not told by steps over other rows', () => {
    const choice = new FasterLately();
    for (let step = 1; step <= 640; step++) {
      // Each trial is smaller than the step before it, and faster for that.
      const rows = step % 32 === 0 ? 4 : 16;
      expect(choice.takesLanes(rows)).toBe(step % 32 === 0);
      choice.took(rows);
    }
  });
});
