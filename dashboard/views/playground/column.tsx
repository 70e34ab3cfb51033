import { useState } from 'preact/hooks';
import type { Answer } from '../../api/stream-chat.ts';
import { chatBody, type Setup } from '../../model/playground-setup.ts';
import type { Piece } from '../../model/text-difference.ts';
import { CallIt } from '../../parts/call-it.tsx';
import { AnswerText } from './answer-text.tsx';
import { Figures } from './figures.tsx';

export interface ColumnTurn {
  readonly prompt: string;
  readonly answer: Answer;
}

/** One of those who are asked: which it is, how fast it answered last, and all that it said. */
export function Column(props: {
  label: string;
  model: string;
  setup: Setup;
  /** Oldest first. */
  turns: readonly ColumnTurn[];
  /** Of the last answer, where it differs from the other side's; null = not compared. */
  pieces: readonly Piece[] | null;
  onModel: (model: string) => void;
}) {
  const { label, model, setup, turns, pieces } = props;
  const [isCode, setCode] = useState(false);
  const answer = turns.at(-1)?.answer ?? null;
  const said = turns.map((turn) => ({ prompt: turn.prompt, answer: turn.answer.text }));
  return (
    <section class="card column" aria-label={`${label} side`}>
      <label class="field">
        <span>{label}: adapter, version or base</span>
        <input
          list="models"
          value={model}
          placeholder="team/name or team/name@2"
          autocomplete="off"
          spellcheck={false}
          // Who types here is not interrupted by a guess that arrives late.
          onFocus={(event) => props.onModel(event.currentTarget.value.trim())}
          onInput={(event) => props.onModel(event.currentTarget.value.trim())}
        />
      </label>
      <Figures answer={answer} />
      {turns.length === 0 && <p class="answer hint">No answer yet.</p>}
      {turns.map((turn, i) => (
        <AnswerText
          key={i}
          {...turn}
          pieces={i === turns.length - 1 ? pieces : null}
          what={`the ${label.toLowerCase()} answer`}
        />
      ))}
      <details class="as-code" onToggle={(event) => setCode(event.currentTarget.open)}>
        <summary>As code</summary>
        {isCode && (
          <CallIt
            label={`${label} side as code`}
            body={
              setup.prompt === '' && said.length > 0
                ? chatBody(model, setup, said.slice(0, -1), said.at(-1)!.prompt)
                : chatBody(model, setup, said, setup.prompt)
            }
          />
        )}
      </details>
    </section>
  );
}
