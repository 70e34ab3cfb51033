import { interrupted } from './cli-error.ts';

/**
 * Runs `work` with a signal that fires on Ctrl-C, so that it can say what remains; a second Ctrl-C ends at once.
 * @throws what `work` throws; CliError `interrupted` out of requests that were on their way.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const ending = new AbortController();
  const onSignal = () => ending.abort(interrupted());
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    return await work(ending.signal);
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
