import type { ExperimentEvaluation } from '../../protocol/experiment-answers.ts';

/** What is lacking, each with what to do; no winner is proposed meanwhile. */
export function Health({ evaluation: { health } }: { evaluation: ExperimentEvaluation }) {
  if (health.length === 0) return null;
  return (
    <section class="note alarm" aria-label="Health">
      <p>
        <strong>Something is lacking.</strong> No winner is proposed meanwhile.
      </p>
      <ul>
        {health.map(({ message }) => (
          <li key={message}>{message}</li>
        ))}
      </ul>
    </section>
  );
}
