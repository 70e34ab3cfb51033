/** Which way a decode step runs: its rows in groups, a core each, or all together on all cores. */
export interface LaneChoice {
  /** @param rows of the step. */
  takesLanes(rows: number): boolean;
  /** The step that was asked about last took so long, ms. */
  took(ms: number): void;
}

/** Every so many steps one runs the other way. Where that is slower by a tenth, it costs 0.3 % in all. */
const STEPS_A_TRIAL = 32;
/** Weight of the newest trial in the moving average. */
const TRIAL_WEIGHT = 0.25;
/**
 * Groups are taken when they are faster by so much, and left when by less than so much; logarithms of the ratio. A single
 * trial is off by a tenth where nothing else runs: with 0.03 for both, groups were taken by mistake, which cost 5 %.
 */
const TAKEN_AT = 0.15;
const LEFT_AT = 0.05;

/**
 * Takes whichever was faster lately. Threads that share a step meet after each of its nodes, some 600 times, and wait
 * for the one whose core something else has; groups meet once, but each of them reads all weights. On two cores with 16
 * rows groups are slower by a tenth when nothing else runs there, and faster by a quarter beside another process that
 * keeps a core busy.
 */
export class FasterLately implements LaneChoice {
  /** Of a step in groups to the one before or after it that was not; logarithm. */
  #ratio = 0;
  #lanes = false;
  #sinceTrial = 0;
  #last: { lanes: boolean; rows: number; ms: number | null } | null = null;
  #before: { rows: number; ms: number } | null = null;

  takesLanes(rows: number): boolean {
    const trial = ++this.#sinceTrial >= STEPS_A_TRIAL;
    const last = this.#last;
    this.#before = trial && last !== null && last.ms !== null ? { rows: last.rows, ms: last.ms } : null;
    if (trial) this.#sinceTrial = 0;
    const lanes = trial ? !this.#lanes : this.#lanes;
    this.#last = { lanes, rows, ms: null };
    return lanes;
  }

  took(ms: number): void {
    if (this.#last === null) return;
    this.#last.ms = ms;
    const before = this.#before;
    // Steps of other sizes say nothing.
    if (before === null || before.rows !== this.#last.rows || before.ms <= 0 || ms <= 0) return;
    const ratio = Math.log(ms / before.ms);
    this.#ratio += TRIAL_WEIGHT * ((this.#last.lanes ? ratio : -ratio) - this.#ratio);
    if (this.#ratio < -TAKEN_AT) this.#lanes = true;
    else if (this.#ratio > -LEFT_AT) this.#lanes = false;
  }
}
