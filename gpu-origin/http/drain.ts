import type { Server } from 'node:http';
import type { Lifecycle } from './lifecycle.ts';

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
  lifecycle: Lifecycle;
  server: Server;
  graceMs: number;
  abortAll: () => Promise<void>;
  sleep: (ms: number) => Promise<void>;
}): Promise<void> {
  const { lifecycle, server, graceMs, abortAll, sleep } = params;
  lifecycle.drain();
  if (graceMs > 0) await sleep(graceMs);
  lifecycle.refuse();
  await Promise.race([lifecycle.whenIdle(), sleep(DRAIN_MS - graceMs)]);
  await abortAll();
  // Aborted streams still have their last event to write.
  await Promise.race([lifecycle.whenIdle(), sleep(LAST_WORDS_MS)]);
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  await Promise.race([closed, sleep(LAST_WORDS_MS)]);
  server.closeAllConnections();
}
