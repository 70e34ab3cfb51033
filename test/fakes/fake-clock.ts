/** A clock that moves only when told to, or when somebody sleeps. */
export class FakeClock {
  time: number;

  /** @param start unix ms. */
  constructor(start = 1_700_000_000_000) {
    this.time = start;
  }

  readonly now = (): number => this.time;
  readonly sleep = async (ms: number): Promise<void> => {
    this.time += ms;
  };
  advance(ms: number): void {
    this.time += ms;
  }
}
