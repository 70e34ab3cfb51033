/**
 * When a job's training computes beside its origin, which answers on the same processor: the origin tells it on their
 * channel when it answers (`Activity`), and the training waits for its turns (`Turns`).
 */

/** Without a step. Longer than the pauses of one conversation with tools; shorter than a person thinks. */
const QUIET_MS = 500;

/** Whether an origin answers requests: from the first step of its engine until some time after the last. */
export class Activity {
  #busy = false;
  #stepAt = 0;
  readonly #listeners = new Set<(busy: boolean) => void>();

  /** @param clock.now in ms. @param clock.timer calls back after `ms`. */
  constructor(
    private readonly clock: { now: () => number; timer: (ms: number, callback: () => void) => unknown },
  ) {}

  onStep(): void {
    this.#stepAt = this.clock.now();
    if (!this.#busy) this.#become(true);
  }

  /** Calls `listener` now, if it answers, and at each change. @returns what ends that. */
  listen(listener: (busy: boolean) => void): () => void {
    if (this.#busy) listener(true);
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #become(busy: boolean): void {
    this.#busy = busy;
    for (const listener of this.#listeners) listener(busy);
    if (busy) this.#lookAfter(QUIET_MS);
  }

  #lookAfter(ms: number): void {
    this.clock.timer(ms, () => {
      const left = this.#stepAt + QUIET_MS - this.clock.now();
      if (left > 0) this.#lookAfter(left);
      else this.#become(false);
    });
  }
}

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
