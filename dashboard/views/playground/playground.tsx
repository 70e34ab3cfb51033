import { Laptop, MessageSquarePlus, Square } from 'lucide';
import { useEffect, useLayoutEffect, useMemo, useState } from 'preact/hooks';
import { createClient, type Client } from '../../api/client.ts';
import { setupOf, setupQuery } from '../../model/playground-setup.ts';
import {
  askBoth,
  beginAnew,
  playground,
  setUp,
  SIDES,
  stopAsking,
  type Side,
} from '../../playground-store.ts';
import { differences } from '../../model/text-difference.ts';
import { hashOf } from '../../model/view.ts';
import { ApiKeyForm } from '../../parts/api-key-form.tsx';
import { Icon } from '../../parts/icon.tsx';
import { useStore } from '../../parts/use-store.ts';
import { storedKey } from '../../session.ts';
import { AsTextSwitch } from './answer-text.tsx';
import { Column } from './column.tsx';
import { Composer } from './composer.tsx';
import { ParameterFields } from './parameter-fields.tsx';
import { useModels } from './use-models.ts';

/** @param props.query of the address: what is set there. */
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
        <Sides client={client} apiKey={key} query={query} />
      )}
    </>
  );
}

const LABELS: Record<Side, string> = { left: 'Left', right: 'Right' };

function Sides({ client, apiKey, query }: { client: Client; apiKey: string; query: string }) {
  const api = useMemo(() => createClient(apiKey), [apiKey]);
  const { setup, turns } = useStore(playground());
  const { known, bases, settled } = useModels(client, api);
  const [isCompared, setCompared] = useState(false);

  // What an address says goes before what was there, and the address then says all of it.
  useLayoutEffect(() => setUp(setupOf(query, playground().get().setup)), [query]);
  useEffect(() => {
    const hash = hashOf({ at: 'playground', query: setupQuery(setup) });
    if (location.hash.startsWith('#/playground')) history.replaceState(null, '', hash);
  }, [setup]);

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
            Run it here
          </a>
          <button type="button" disabled={turns.length === 0} onClick={beginAnew}>
            <Icon of={MessageSquarePlus} />
            New conversation
          </button>
        </span>
      </div>
      <ParameterFields setup={setup} onChange={setUp} />
      <datalist id="models">
        {known.map((id) => (
          <option key={id} value={id} />
        ))}
      </datalist>
      <div class="sides">
        {SIDES.map((side) => (
          <Column
            key={side}
            label={LABELS[side]}
            model={models[side]}
            setup={setup}
            turns={turns.flatMap(({ prompt, answers }) => {
              const answer = answers[side];
              return answer === null ? [] : [{ prompt, answer }];
            })}
            pieces={pieces?.[side === 'left' ? 'a' : 'b'] ?? null}
            onModel={(model) => setUp({ [side]: model })}
          />
        ))}
      </div>
      <Composer
        prompt={setup.prompt}
        running={running}
        // Who is asked is not left to which answer came first.
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
