import { MessageSquarePlus, Square } from 'lucide';
import { useLayoutEffect, useMemo, useState } from 'preact/hooks';
import { type Client, createClient } from '../../api/client.ts';
import { engineHere } from '../../api/engine-here.ts';
import {
  askHere,
  beginHere,
  hereStore,
  type HereTurn,
  type Place,
  PLACES,
  setUpHere,
  stopHere,
} from '../../here-store.ts';
import { divergence } from '../../model/answer-difference.ts';
import { setupOf, setupQuery } from '../../model/playground-setup.ts';
import { MAY_NOT_DOWNLOAD } from '../../model/problem-here.ts';
import { hashOf } from '../../model/view.ts';
import { number } from '../../model/words.ts';
import { Icon } from '../../parts/icon.tsx';
import { ApiKeyForm, KeyProblem } from '../../parts/key-form.tsx';
import { useStore } from '../../parts/use-store.ts';
import { storedKey } from '../../session.ts';
import { AnswerText, AsTextSwitch, Conversations, rowsOf } from '../playground/answer-text.tsx';
import { Composer } from '../playground/composer.tsx';
import { ParameterFields } from '../playground/parameter-fields.tsx';
import { useAddress } from '../playground/use-address.ts';
import { useModels } from '../playground/use-models.ts';
import { BaseCard } from './base-card.tsx';

const TITLES: Record<Place, string> = { here: 'Here, in this browser', origin: 'At the origin' };

/** One name, asked twice: at the origin, and in this browser. @param props.query of the address: what is set there. */
export function HereView({ client, query }: { client: Client; query: string }) {
  const [key, setKey] = useState(() => storedKey('api'));
  return (
    <>
      <div class="title">
        <h1>Here and at the origin</h1>
        <span class="push choices">
          <a class="button" href={hashOf({ at: 'playground' })}>
            Two adapters
          </a>
        </span>
      </div>
      {key === null ? (
        <ApiKeyForm onKey={setKey} />
      ) : (
        <Places client={client} apiKey={key} query={query} onKey={setKey} />
      )}
    </>
  );
}

function Places(props: { client: Client; apiKey: string; query: string; onKey: (key: string) => void }) {
  const { client, apiKey, query } = props;
  const api = useMemo(() => createClient(apiKey), [apiKey]);
  const { setup, turns } = useStore(hereStore);
  const engine = useStore(engineHere);
  const isRefused = turns.at(-1)?.answers.origin?.problem?.code === 'invalid_api_key';
  const { known, bases, settled, trouble } = useModels(client, api, isRefused);
  const [isApart, setApart] = useState(() => /^(localhost|127\.|\[::1\])/.test(location.hostname));

  // What an address says goes before what was there, and the address then says all of it.
  useLayoutEffect(() => setUpHere(setupOf(query, hereStore.get().setup)), [query]);
  useAddress(hashOf({ at: 'here', query: setupQuery(setup) }));

  const model = setup.name ?? known.find((id) => !bases.includes(id)) ?? bases[0] ?? '';
  const last = turns.at(-1);
  const running = PLACES.some((place) => last?.answers[place]?.state === 'running');
  const mayNot = PLACES.map((place) => last?.answers[place]?.problem?.code).includes(MAY_NOT_DOWNLOAD);
  return (
    <>
      <p class="lead">
        The same name answers twice: at the origin, and in this browser by <code>graft/browser</code>, as a
        page of yours would run it. What you ask goes to both.
      </p>
      <BaseCard />
      <ParameterFields setup={setup} onChange={setUpHere} />
      <datalist id="models">
        {known.map((id) => (
          <option key={id} value={id} />
        ))}
      </datalist>
      <label class="field here-name">
        <span>Adapter or base, of both</span>
        <input
          list="models"
          value={model}
          placeholder="team/name"
          autocomplete="off"
          spellcheck={false}
          // Who types here is not interrupted by a guess that arrives late.
          onFocus={(event) => setUpHere({ name: event.currentTarget.value.trim() })}
          onInput={(event) => setUpHere({ name: event.currentTarget.value.trim() })}
        />
      </label>
      <KeyProblem {...trouble} onKey={props.onKey} />
      {mayNot && (
        <NoDownload
          onKey={(key) => {
            beginHere();
            props.onKey(key);
          }}
        />
      )}
      <Comparison turn={last ?? null} />
      <Conversations turns={turns.length}>
        {PLACES.map((place) => (
          <section key={place} class="card column" aria-label={TITLES[place]} style={rowsOf(turns.length, 1)}>
            <h2>{TITLES[place]}</h2>
            {turns.length === 0 && <p class="answer hint">No answer yet.</p>}
            {turns.map(({ prompt, answers: { [place]: answer } }, i) =>
              answer === null ? (
                <p key={i} class="answer hint">
                  {i === turns.length - 1 && running
                    ? 'Its turn comes when the origin has ended.'
                    : 'Not asked.'}
                </p>
              ) : (
                <AnswerText key={i} prompt={prompt} answer={answer} pieces={null} what="the answer" />
              ),
            )}
          </section>
        ))}
      </Conversations>
      <Composer
        prompt={setup.prompt}
        running={running}
        canAsk={engine.at === 'open' && model !== '' && (settled || setup.name !== null)}
        onPrompt={(prompt) => setUpHere({ prompt })}
        onAsk={() => {
          const name = bases.includes(model) || model === 'base' ? null : model;
          void askHere({ key: apiKey, model, name, apart: isApart });
        }}
      >
        <button type="button" disabled={!running} onClick={stopHere}>
          <Icon of={Square} />
          Stop
        </button>
        <button type="button" disabled={turns.length === 0} onClick={beginHere}>
          <Icon of={MessageSquarePlus} />
          New conversation
        </button>
        <label class="check" title="On one machine each would slow the other.">
          <input
            type="checkbox"
            checked={isApart}
            onChange={(event) => setApart(event.currentTarget.checked)}
          />
          <span>One after the other</span>
        </label>
        <AsTextSwitch />
        {engine.at !== 'open' && <span class="hint">Start the base first.</span>}
      </Composer>
    </>
  );
}

/** The key may ask, and not let a page have adapters' bytes. */
function NoDownload({ onKey }: { onKey: (key: string) => void }) {
  return (
    <section class="card here-key" aria-label="A key that may download">
      <h2>A key that may download</h2>
      <p>
        Here the weights of adapters come into the browser, which a key allows only where it was given that
        right: <code class="nowrap">graft keys create --download</code> makes one,{' '}
        <code class="nowrap">graft keys change &lt;id&gt; --download</code> changes one. It opens adapters of
        its own tenant.
      </p>
      <ApiKeyForm onKey={onKey} />
    </section>
  );
}

/** How far apart the two last answers are: their texts, and the distributions that their tokens were drawn from. */
function Comparison({ turn }: { turn: HereTurn | null }) {
  const { origin, here } = turn?.answers ?? { origin: null, here: null };
  if (origin?.state !== 'done' || here?.state !== 'done') return null;
  const isSameAdapter = origin.adapter === here.adapter;
  const found = divergence(origin.scores, here.scores);
  return (
    <p class="facts" role="status">
      {origin.text === here.text ? (
        <span>Both answers are the same, letter by letter.</span>
      ) : (
        <span>The answers differ.</span>
      )}
      {found !== null && (
        <span>
          {' '}
          <abbr
            tabIndex={0}
            title={`Kullback-Leibler divergence of the next token’s distribution, from the origin’s to the one here, before temperature; mean over the ${found.tokens} tokens at which both had read the same. Both tell at most 20 of their likeliest tokens, on average ${number(found.shared)} of them the same; all others count as one, so that it is a lower bound.`}
          >
            KL divergence
          </abbr>{' '}
          <strong>{nats(found.nats)} nats</strong> over {found.tokens}{' '}
          {found.tokens === 1 ? 'token' : 'tokens'}
          {found.tokens < origin.scores.length && ', as far as both texts agree'}.
        </span>
      )}
      {!isSameAdapter && (
        <span>
          {' '}
          They come from different adapters: {origin.adapter ?? 'the base'} at the origin,{' '}
          {here.adapter ?? 'the base'} here.
        </span>
      )}
    </p>
  );
}

/** Below a ten-thousandth, digits are rounding. */
const nats = (value: number): string => (value < 1e-4 ? '< 0.0001' : number(value));
