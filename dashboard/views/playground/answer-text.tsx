import type { Answer } from '../../api/stream-chat.ts';
import type { Piece } from '../../model/text-difference.ts';
import { CopyButton } from '../../parts/copy-button.tsx';
import { ProblemNote } from '../../parts/problem-note.tsx';

const STATES: Record<Answer['state'], string> = {
  running: 'streaming',
  done: 'done',
  stopped: 'stopped',
  failed: 'failed',
};

/** A prompt and the answer to it, which is text. @param props.pieces where it differs from another; null = not marked. */
export function AnswerText(props: {
  prompt: string;
  answer: Answer;
  pieces: readonly Piece[] | null;
  /** What is copied. */
  what: string;
}) {
  const { prompt, answer, pieces, what } = props;
  return (
    <div class="turn">
      <p class="asked">{prompt}</p>
      <p class="answer" aria-live="polite" aria-busy={answer.state === 'running'}>
        {answer.text === '' ? (
          <span class="hint">{answer.state === 'running' ? 'Waiting …' : 'No answer.'}</span>
        ) : pieces === null ? (
          answer.text
        ) : (
          pieces.map(({ text, same }, i) => (same ? text : <mark key={i}>{text}</mark>))
        )}
      </p>
      <p class="hint after">
        <span>{STATES[answer.state]}</span>
        {answer.degraded !== null && <span>; degraded: {answer.degraded}</span>}
        {answer.text !== '' && <CopyButton text={answer.text} what={what} />}
      </p>
      <ProblemNote problem={answer.problem} />
    </div>
  );
}
