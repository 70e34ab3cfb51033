import { Laptop, MessageSquarePlus, Square } from 'lucide';
import { useLayoutEffect, useMemo, useState } from 'preact/hooks';
import { type Client, createClient } from '../../api/client.ts';
import type { Answer } from '../../api/stream-chat.ts';
import { differences, type Piece } from '../../model/answer-difference.ts';
import { chatBody, type Setup, setupOf, setupQuery } from '../../model/playground-setup.ts';
import { hashOf } from '../../model/view.ts';
import { CallIt } from '../../parts/copy-button.tsx';
import { Suggestions } from '../../parts/fields.tsx';
import { Icon } from '../../parts/icon.tsx';
import { ApiKeyForm, KeyProblem } from '../../parts/key-form.tsx';
import { useStore } from '../../parts/hooks.ts';
import {
  askBoth,
  beginAnew,
  playground,
  setUp,
  type Side,
  SIDES,
  stopAsking,
} from '../../playground-store.ts';
import { storedKey } from '../../session.ts';
import {
  AnswerText,
  AsTextSwitch,
  Conversations,
  rowsOf,
  Composer,
  ParameterFields,
  useModels,
  useAddress,
} from './chat-parts.tsx';

/** @param props.query settings in the address. */
export function PlaygroundView({ client, query }: { client: Client; query: string }) {
  const [key, setKey] = useState(() => storedKey('api'));
  return (
    <>
      {key === null ? (
        <>
          <h1>Playground</h1>
          <ApiKeyForm onKey={setKey} />
        </>
      ) : (
        <Sides client={client} apiKey={key} query={query} onKey={setKey} />
      )}
    </>
  );
}

const LABELS: Record<Side, string> = { left: 'Left', right: 'Right' };

function Sides(props: { client: Client; apiKey: string; query: string; onKey: (key: string) => void }) {
  const { client, apiKey, query } = props;
  const api = useMemo(() => createClient(apiKey), [apiKey]);
  const { setup, turns } = useStore(playground());
  const isRefused = SIDES.some((side) => turns.at(-1)?.answers[side]?.problem?.code === 'invalid_api_key');
  const { known, bases, suggestions, settled, trouble } = useModels(client, api, isRefused);
  const [isCompared, setCompared] = useState(false);

  // The address takes precedence over earlier settings, and then contains all of them.
  useLayoutEffect(() => setUp(setupOf(query, playground().get().setup)), [query]);
  useAddress(hashOf({ at: 'playground', query: setupQuery(setup) }));

  const guess: Record<Side, string> = {
    left: bases[0] ?? '',
    right: known.find((id) => !bases.includes(id)) ?? '',
  };
  const models: Record<Side, string> = {
    left: setup.left ?? guess.left,
    right: setup.right ?? guess.right,
  };
  const { left: _left, right: _right, ...asked } = setup;
  const last = turns.at(-1);
  const running = SIDES.some((side) => last?.answers[side]?.state === 'running');
  const canCompare = last?.answers.left != null && last.answers.right != null && !running;
  const pieces =
    isCompared && canCompare ? differences(last.answers.left!.text, last.answers.right!.text) : null;
  return (
    <>
      <div class="title">
        <h1>Playground</h1>
        <span class="push choices">
          <a
            class="button"
            href={hashOf({ at: 'here', query: setupQuery({ ...asked, name: models.right || null }) })}
          >
            <Icon of={Laptop} />
            Run it in the browser
          </a>
          <button type="button" disabled={turns.length === 0} onClick={beginAnew}>
            <Icon of={MessageSquarePlus} />
            New conversation
          </button>
        </span>
      </div>
      <KeyProblem {...trouble} onKey={props.onKey} />
      <ParameterFields setup={setup} onChange={setUp} />
      <Suggestions id="models" of={suggestions} />
      <Conversations turns={turns.length}>
        {SIDES.map((side) => (
          <Column
            key={side}
            label={LABELS[side]}
            model={models[side]}
            setup={setup}
            turns={turns.map(({ prompt, answers }) => ({ prompt, answer: answers[side] }))}
            pieces={pieces?.[side === 'left' ? 'a' : 'b'] ?? null}
            onModel={(model) => setUp({ [side]: model })}
          />
        ))}
      </Conversations>
      <Composer
        prompt={setup.prompt}
        running={running}
        // The choice of models must not depend on which request was faster.
        canAsk={
          SIDES.some((side) => models[side] !== '') && SIDES.every((side) => settled || setup[side] !== null)
        }
        onPrompt={(prompt) => setUp({ prompt })}
        onAsk={() => askBoth({ key: apiKey, models })}
      >
        <button type="button" disabled={!running} onClick={stopAsking}>
          <Icon of={Square} />
          Stop
        </button>
        <label class="check">
          <input
            type="checkbox"
            checked={isCompared}
            onChange={(event) => setCompared(event.currentTarget.checked)}
          />
          <span>Mark differences</span>
        </label>
        <AsTextSwitch />
      </Composer>
    </>
  );
}

/** In the code, before anything is asked. */
const EXAMPLE = 'Hello';

interface ColumnTurn {
  readonly prompt: string;
  /** null = not asked. */
  readonly answer: Answer | null;
}

/** One side: its model and its conversation. */
function Column(props: {
  label: string;
  model: string;
  setup: Setup;
  /** Oldest first. */
  turns: readonly ColumnTurn[];
  /** Differences of the last answer from the other side's; null = not compared. */
  pieces: readonly Piece[] | null;
  onModel: (model: string) => void;
}) {
  const { label, model, setup, turns, pieces } = props;
  const [isCode, setCode] = useState(false);
  const said = turns.flatMap(({ prompt, answer }) =>
    answer === null ? [] : [{ prompt, answer: answer.text }],
  );
  return (
    <section class="card column" aria-label={`${label} side`} style={rowsOf(turns.length, 2)}>
      <label class="field">
        <span>{label}: adapter, version or base</span>
        <input
          list="models"
          value={model}
          title={model}
          placeholder="team/name or team/name@2"
          autocomplete="off"
          spellcheck={false}
          // A late guess must not interrupt the user's typing.
          onFocus={(event) => props.onModel(event.currentTarget.value.trim())}
          onInput={(event) => props.onModel(event.currentTarget.value.trim())}
        />
      </label>
      {turns.length === 0 && <p class="answer hint">No answer yet.</p>}
      {turns.map(({ prompt, answer }, i) =>
        answer === null ? (
          <p key={i} class="answer hint">
            Not asked.
          </p>
        ) : (
          <AnswerText
            key={i}
            {...{ prompt, answer }}
            pieces={i === turns.length - 1 ? pieces : null}
            what={`the ${label.toLowerCase()} answer`}
          />
        ),
      )}
      <details class="as-code" onToggle={(event) => setCode(event.currentTarget.open)}>
        <summary>As code</summary>
        {isCode && (
          <CallIt
            label={`${label} side as code`}
            body={
              setup.prompt === '' && said.length > 0
                ? chatBody(model, setup, said.slice(0, -1), said.at(-1)!.prompt)
                : chatBody(model, setup, said, setup.prompt === '' ? EXAMPLE : setup.prompt)
            }
          />
        )}
      </details>
    </section>
  );
}
