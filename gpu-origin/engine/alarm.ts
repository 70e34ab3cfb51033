import type { Clock } from './ports.ts';

/** What the loop sleeps on when there is nothing to run. */
export class Alarm {
  readonly #clock: Pick<Clock, 'now' | 'timer'>;
  #rung = false;
  #resume: (() => void) | null = null;

  constructor(clock: Pick<Clock, 'now' | 'timer'>) {
    this.#clock = clock;
  }

  /** Something happened. It is remembered until `clear`. */
  readonly ring = (): void => {
    this.#rung = true;
    this.#resume?.();
    this.#resume = null;
  };

  /** What happened so far is taken note of. */
  clear(): void {
    this.#rung = false;
  }

  /** Until it rings, or has rung since `clear`. @param at on the clock, at the latest; Infinity = never. */
  async wait(at: number): Promise<void> {
    if (this.#rung) return;
    const cancel = at === Infinity ? null : this.#clock.timer(Math.max(0, at - this.#clock.now()), this.ring);
    await new Promise<void>((resolve) => (this.#resume = resolve));
    cancel?.();
  }
}
