/** Ctrl-C ends the run in order: what runs is killed, and the summary of what ran is printed. */
import os from 'node:os';
import type { TestProject } from 'vitest/node';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** One Ctrl-C is two signals: npm passes on what the terminal has sent to all. A further one does not wait. */
const ONE_INTERRUPTION = 2;

export default function ({ vitest }: TestProject): void {
  let signals = 0;
  for (const signal of SIGNALS) {
    // vitest's own end at once, without a summary.
    process.removeAllListeners(signal);
    process.on(signal, () => {
      signals += 1;
      // vitest sets another.
      process.once('exit', () => (process.exitCode = 128 + os.constants.signals[signal]));
      if (signals > ONE_INTERRUPTION) process.exit();
      if (signals > 1) return;
      vitest.logger.log(`${signal}: ends what the tests started. What has run until now:`);
      // The first waits for the tests that run, the second kills them.
      for (let i = 0; i < 2; i += 1) vitest.cancelCurrentRun('keyboard-input').catch(() => undefined);
    });
  }
  // The terminal may be closed.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
}
