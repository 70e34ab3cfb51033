export type LifecycleState = 'loading' | 'ready' | 'draining';

/** Where the origin is between its start and its end, and how many requests it is answering. */
export class Lifecycle {
  private current: LifecycleState = 'loading';
  private refusing = false;
  private active = 0;
  private idle: (() => void)[] = [];

  get state(): LifecycleState {
    return this.current;
  }

  /** New requests are refused: nothing is loaded yet, or the end is near. */
  get refuses(): boolean {
    return this.current === 'loading' || this.refusing;
  }

  get inFlight(): number {
    return this.active;
  }

  ready(): void {
    if (this.current === 'loading') this.current = 'ready';
  }

  /** Not ready any more, but still serving: whoever balances the load needs a moment to notice. */
  drain(): void {
    this.current = 'draining';
  }

  refuse(): void {
    this.refusing = true;
  }

  /** @returns a function to call once, when the request has been answered to its last byte. */
  enter(): () => void {
    this.active += 1;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.active -= 1;
      if (this.active === 0) for (const resolve of this.idle.splice(0)) resolve();
    };
  }

  /** Resolves when no request is being answered. */
  whenIdle(): Promise<void> {
    return this.active === 0 ? Promise.resolve() : new Promise((resolve) => this.idle.push(resolve));
  }
}
