import type { Problem } from '../model/problem.ts';

/** Says what went wrong and what to do; read out as it appears. */
export function ProblemNote({ problem, onRetry }: { problem: Problem | null; onRetry?: () => void }) {
  if (problem === null) return null;
  return (
    <div class="note alarm" role="alert">
      <p>
        <strong>{problem.message}</strong> {problem.advice}
      </p>
      {onRetry !== undefined && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}
