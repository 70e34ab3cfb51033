import type { ComponentChildren, FunctionComponent } from 'preact';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
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
        <Figures answer={answer} />
      </p>
      <ProblemNote problem={answer.problem} />
    </div>
  );
}

/** How fast an answer came, and what gave it; nothing of one from before the page was loaded. */
function Figures({ answer: { pace, adapter, inherited, variant } }: { answer: Answer }) {
  const first = ttft(pace);
  const speed = tokensPerSecond(pace);
  const tokens = pace.tokens ?? pace.pieces;
  return (
    <>
      {first !== null && (
        <span class="nowrap">
          <abbr title="Time to first token">TTFT</abbr> {duration(first)}
        </span>
      )}
      {speed !== null && <span class="nowrap">{number(speed)} tokens/s</span>}
      {tokens > 0 && (
        <span class="nowrap">
          {tokens} {tokens === 1 ? 'token' : 'tokens'}
        </span>
      )}
      {adapter !== null && (
        <span class="name">
          by {adapter}
          {inherited && ' (inherited)'}
          {variant !== null && ` (variant ${variant})`}
        </span>
      )}
    </>
  );
}

/** Pixels from the end of the page within which its reader is taken to be at the end. */
const NEAR_END = 48;

/** Rows that a side spans, for the answers to one prompt to stand beside each other. @param others beside the turns. */
export const rowsOf = (turns: number, others: number): { gridRow: string } => ({
  gridRow: `span ${Math.max(1, turns) + others}`,
});

/**
 * Conversations beside each other. Each new turn, and what grows below a reader who is at the end, is scrolled to: the
 * composer covers the end of the page otherwise. Whoever has scrolled up is left there.
 */
export function Conversations({ turns, children }: { turns: number; children: ComponentChildren }) {
  const place = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(turns > 0);
  const before = useRef(turns);
  if (turns > before.current) isAtEnd.current = true;
  before.current = turns;
  useLayoutEffect(() => {
    const element = place.current;
    const { documentElement: page } = document;
    if (element === null) return;
    const look = () => {
      isAtEnd.current = page.scrollHeight - page.clientHeight - scrollY <= NEAR_END;
    };
    const follow = new ResizeObserver(() => {
      if (isAtEnd.current) scrollTo(0, page.scrollHeight);
    });
    follow.observe(element);
    addEventListener('scroll', look, { passive: true });
    return () => {
      follow.disconnect();
      removeEventListener('scroll', look);
    };
  }, []);
  return (
    <div ref={place} class="sides talks">
      {children}
    </div>
  );
}
