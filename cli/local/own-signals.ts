/** Signals that end `graft dev`. */
export const ENDING_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs `work` and takes away the listeners for ending signals that it installed. wrangler at its import, and Miniflare
 * when it starts, install some that call `process.exit` at once: our own orderly end would never run.
 */
export async function keepSignalsOurs<T>(work: () => T | Promise<T>): Promise<T> {
  const before = ENDING_SIGNALS.map((signal) => new Set(process.listeners(signal)));
  try {
    return await work();
  } finally {
    for (const [index, signal] of ENDING_SIGNALS.entries())
      for (const listener of process.listeners(signal))
        if (!before[index]?.has(listener)) process.off(signal, listener);
  }
}
