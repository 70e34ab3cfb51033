import type { Server } from 'node:http';

export type ServingState = 'loading' | 'ready' | 'draining';

/** Where the origin is between its start and its end, and how many requests it is answering. */
export class Serving {
  private current: ServingState = 'loading';
  private refusing = false;
  private active = 0;
  private idle: (() => void)[] = [];

  get state(): ServingState {
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

/** Orchestrators commonly kill 60 s after SIGTERM. */
export const DRAIN_MS = 55_000;
const LAST_WORDS_MS = 1_000;

/**
 * Ends the origin without cutting anybody off if it can be helped: not ready any more, but serving for `graceMs` so
 * that balancers notice; then new requests get 503; running ones may finish until 55 s after the beginning; the rest
 * is aborted (streams end with an error event).
 * @param abortAll ends every running request.
 * @param sleep injected, ms.
 */
export async function drain(params: {
  serving: Serving;
  server: Server;
  graceMs: number;
  abortAll: () => Promise<void>;
  sleep: (ms: number) => Promise<void>;
}): Promise<void> {
  const { serving, server, graceMs, abortAll, sleep } = params;
  serving.drain();
  if (graceMs > 0) await sleep(graceMs);
  serving.refuse();
  await Promise.race([serving.whenIdle(), sleep(DRAIN_MS - graceMs)]);
  await abortAll();
  // Aborted streams still have their last event to write.
  await Promise.race([serving.whenIdle(), sleep(LAST_WORDS_MS)]);
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  await Promise.race([closed, sleep(LAST_WORDS_MS)]);
  server.closeAllConnections();
}
