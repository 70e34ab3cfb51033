import type { FunctionComponent } from 'preact';
import { useEffect } from 'preact/hooks';
import type { Answer } from '../../api/stream-chat.ts';
import type { Piece } from '../../model/answer-difference.ts';
import { tokensPerSecond, ttft } from '../../model/pace.ts';
import { createStore } from '../../model/store.ts';
import { duration, number } from '../../model/words.ts';
import { CopyButton } from '../../parts/copy-button.tsx';
import { ProblemNote } from '../../parts/notes.tsx';
import { useStore } from '../../parts/use-store.ts';

const STATES: Record<Answer['state'], string> = {
  running: 'streaming',
  done: 'done',
  stopped: 'stopped',
  failed: 'failed',
};

/** Whether answers are shown letter by letter, as the model wrote them. */
const asText = createStore(false);
/** What draws Markdown; null = it is not loaded yet, and answers are text until then. */
const drawer = createStore<FunctionComponent<{ text: string }> | null>(null);

export function AsTextSwitch() {
  return (
    <label class="check" title="Answers are drawn as the Markdown that models write, unless this is on.">
      <input
        type="checkbox"
        checked={useStore(asText)}
        onChange={(event) => asText.set(event.currentTarget.checked)}
      />
      <span>As text</span>
    </label>
  );
}

/** A prompt and the answer to it. @param props.pieces where it differs from another; null = not marked. */
export function AnswerText(props: {
  prompt: string;
  answer: Answer;
  pieces: readonly Piece[] | null;
  /** What is copied. */
  what: string;
}) {
  const { prompt, answer, pieces, what } = props;
  const Markdown = useStore(drawer);
  const isText = useStore(asText) || Markdown === null;
  useEffect(() => {
    if (drawer.get() === null)
      void import('../../parts/markdown.tsx').then(
        ({ default: drawn }) => drawer.set(drawn),
        // It stays text; the next answer tries again.
        () => undefined,
      );
  }, []);
  return (
    <div class="turn">
      <p class="asked" dir="auto">
        {prompt}
      </p>
      <div class="answer" dir="auto" aria-live="polite" aria-busy={answer.state === 'running'}>
        {answer.text === '' ? (
          <span class="hint">{answer.state === 'running' ? 'Waiting …' : 'No answer.'}</span>
        ) : pieces === null ? (
          isText ? (
            answer.text
          ) : (
            <Markdown text={answer.text} />
          )
        ) : (
          pieces.map(({ text, same }, i) => (same ? text : <mark key={i}>{text}</mark>))
        )}
      </div>
      <p class="hint after">
        <span>
          {STATES[answer.state]}
          {answer.degraded !== null && `; degraded: ${answer.degraded}`}
        </span>
        {answer.text !== '' && <CopyButton text={answer.text} what={what} />}
      </p>
      <ProblemNote problem={answer.problem} />
    </div>
  );
}

/** How fast an answer came, and what gave it. */
export function Figures({ answer }: { answer: Answer | null }) {
  const first = answer === null ? null : ttft(answer.pace);
  const speed = answer === null ? null : tokensPerSecond(answer.pace);
  const tokens = answer === null ? 0 : (answer.pace.tokens ?? answer.pace.pieces);
  return (
    <dl class="figures">
      <div>
        <dt>
          <abbr title="Time to first token">TTFT</abbr>
        </dt>
        <dd>{first === null ? '–' : duration(first)}</dd>
      </div>
      <div>
        <dt>Tokens/s</dt>
        <dd>{speed === null ? '–' : number(speed)}</dd>
      </div>
      <div>
        <dt>Tokens</dt>
        <dd>{tokens === 0 ? '–' : tokens}</dd>
      </div>
      <div class="wide">
        <dt>Served by</dt>
        <dd>
          {answer?.adapter ?? '–'}
          {answer?.inherited === true && ' (inherited)'}
          {answer?.variant != null && ` (variant ${answer.variant})`}
        </dd>
      </div>
    </dl>
  );
}
