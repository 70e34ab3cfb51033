/** When a training computes beside an origin that answers on the same processor. */

/** Of the time, while the origin answers: less than one in a hundred gaps between tokens may be longer for it. */
const SHARE = 0.01;

/**
 * Runs of a training, one after another: at once while the origin is quiet; while it answers, as few as `SHARE` allows. A
 * run that has begun is not interrupted.
 */
export class Turns {
  private busy = false;
  /** By `now`: when the share allows the next run. */
  private nextAt = -Infinity;
  private wake: (() => void) | null = null;

  /** @param clock.now in ms. @param clock.timer calls back after `ms`; returns what cancels it. */
  constructor(
    private readonly clock: { now: () => number; timer: (ms: number, callback: () => void) => () => void },
  ) {}

  /** The origin has begun to answer, or has become quiet. */
  tell(busy: boolean): void {
    this.busy = busy;
    if (!busy) this.wake?.();
  }

  /** Does `run` when it is its turn; not called again before it has ended. */
  async take<T>(run: () => Promise<T>): Promise<T> {
    while (this.busy && this.clock.now() < this.nextAt) await this.quietOrTimeUp();
    const began = this.clock.now();
    try {
      return await run();
    } finally {
      const ended = this.clock.now();
      this.nextAt = ended + (ended - began) * (1 / SHARE - 1);
    }
  }

  private quietOrTimeUp(): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.clock.timer(this.nextAt - this.clock.now(), resolve);
      this.wake = () => {
        cancel();
        resolve();
      };
    });
  }
}
