/**
 * Runs `work` again and again, never twice at once, as a cron would.
 * @param params.pauseMs before the first run, and from the end of one to the beginning of the next.
 * @param params.onFailure told of a run that failed; the next one comes all the same.
 * @returns what ends it. A run that is under way is not waited for, it may take minutes, nor heard of any more.
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
    // It keeps nobody alive who has nothing else to do.
    timer.unref();
  };
  plan();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
