import { unreachedSince } from '../api/reach.ts';
import type { Problem } from '../model/problem.ts';
import { useStore } from './use-store.ts';

/** Says what went wrong and what to do; read out as it appears. */
export function ProblemNote({ problem, onRetry }: { problem: Problem | null; onRetry?: () => void }) {
  const away = useStore(unreachedSince) !== null;
  // Of what is read again by itself the frame says that the edge is away, once.
  if (problem === null || (away && problem.code === 'no_answer' && onRetry !== undefined)) return null;
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
