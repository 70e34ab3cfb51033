import { setMaxListeners } from 'node:events';
import { interrupted } from './cli-error.ts';

/**
 * Runs `work` with a signal that fires on Ctrl-C, so that it can say what remains; a second Ctrl-C ends at once.
 * @throws what `work` throws; CliError `interrupted` out of requests that were on their way.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const ending = new AbortController();
  // Each pause before a request is repeated listens to it, and takes its listener away; there are as many of them as
  // requests at a time. Node takes more than ten for a leak.
  setMaxListeners(0, ending.signal);
  const onSignal = () => ending.abort(interrupted());
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    return await work(ending.signal);
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
