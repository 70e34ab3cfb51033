/**
 * Runs `work` repeatedly, never twice at once, like a cron job.
 * @param params.pauseMs before the first run, and between runs.
 * @param params.onFailure called for a failed run; the next one runs all the same.
 * @returns a function that stops it. A run in progress, which may take minutes, is neither awaited nor
 * reported.
 */
export function startSchedule(params: {
  work: () => Promise<void>;
  pauseMs: number;
  onFailure: (reason: string) => void;
}): () => void {
  const { work, pauseMs, onFailure } = params;
  let stopped = false;
  let timer: NodeJS.Timeout;
  const run = async () => {
    try {
      await work();
    } catch (error) {
      if (!stopped) onFailure(error instanceof Error ? error.message : String(error));
    }
    if (!stopped) plan();
  };
  const plan = () => {
    timer = setTimeout(() => void run(), pauseMs);
    // It does not keep an otherwise finished process alive.
    timer.unref();
  };
  plan();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
