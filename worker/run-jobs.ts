/**
 * Runs the schedule's jobs one after the other; one that fails keeps none of the others from its turn.
 * @throws the first failure, when all have run: the platform then counts the invocation as failed.
 */
export async function runJobs(jobs: Record<string, () => Promise<unknown>>): Promise<void> {
  const failures: unknown[] = [];
  for (const [job, run] of Object.entries(jobs)) {
    try {
      await run();
    } catch (error) {
      failures.push(error);
      const reason = error instanceof Error ? error.message : String(error);
      console.error(JSON.stringify({ event: 'job_failed', job, reason }));
    }
  }
  if (failures.length > 0) throw failures[0];
}
