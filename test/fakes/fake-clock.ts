/** A clock that moves only when told to, or when somebody sleeps. */
export class FakeClock {
  time: number;

  /** @param start unix ms. */
  constructor(start = 1_700_000_000_000) {
    this.time = start;
  }

  readonly now = (): number => this.time;
  /** Lets others run before it returns, or nobody would ever get on while somebody polls. */
  readonly sleep = async (ms: number): Promise<void> => {
    this.time += ms;
    await new Promise((resolve) => setTimeout(resolve, 0));
  };
  advance(ms: number): void {
    this.time += ms;
  }
}
