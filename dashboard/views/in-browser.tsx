import { MessageSquarePlus, Square, Download, Play, Trash2 } from 'lucide';
import { useLayoutEffect, useMemo, useState, useEffect } from 'preact/hooks';
import { type Client, createClient } from '../api/client.ts';
import {
  browserEngine,
  lookAtStored,
  openBrowserEngine,
  removeBrowserEngine,
  stopOpening,
  answerInBrowser,
  MAY_NOT_DOWNLOAD,
} from '../api/browser-engine.ts';
import { divergence } from '../model/answer-difference.ts';
import {
  setupOf,
  setupQuery,
  chatBody,
  EMPTY_BROWSER_SETUP,
  withAnswer,
  type BrowserSetup,
  type TurnOf,
} from '../model/playground-setup.ts';
import { hashOf } from '../model/view.ts';
import { number, bytes } from '../model/words.ts';
import { Suggestions } from '../parts/fields.tsx';
import { Icon } from '../parts/icon.tsx';
import { ApiKeyForm, KeyProblem } from '../parts/key-form.tsx';
import { useStore, useLoad } from '../parts/hooks.ts';
import { storedKey } from '../session.ts';
import {
  AnswerText,
  AsTextSwitch,
  Conversations,
  rowsOf,
  Composer,
  ParameterFields,
  useModels,
  useAddress,
} from './playground/chat-parts.tsx';
import { WebBaseManifest } from '../../protocol/browser-downloads.ts';
import { ProblemNote } from '../parts/notes.tsx';
import { streamChat, type Answer } from '../api/stream-chat.ts';
import { createStore } from '../model/store.ts';

const TITLES: Record<Place, string> = { browser: 'In the browser', origin: 'At the origin' };

/** One name, asked twice: at the origin, and in this browser. @param props.query settings in the address. */
export function InBrowserView({ client, query }: { client: Client; query: string }) {
  const [key, setKey] = useState(() => storedKey('api'));
  return (
    <>
      <div class="title">
        <h1>In the browser and at the origin</h1>
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
  const { setup, turns } = useStore(browserStore);
  const engine = useStore(browserEngine);
  const isRefused = turns.at(-1)?.answers.origin?.problem?.code === 'invalid_api_key';
  const { known, bases, suggestions, settled, trouble } = useModels(client, api, isRefused);
  const [isApart, setApart] = useState(() => /^(localhost|127\.|\[::1\])/.test(location.hostname));

  // The address takes precedence over earlier settings, and then contains all of them.
  useLayoutEffect(() => setUpBrowser(setupOf(query, browserStore.get().setup)), [query]);
  useAddress(hashOf({ at: 'here', query: setupQuery(setup) }));

  const model = setup.name ?? known.find((id) => !bases.includes(id)) ?? bases[0] ?? '';
  const last = turns.at(-1);
  const running = PLACES.some((place) => last?.answers[place]?.state === 'running');
  const mayNot = PLACES.map((place) => last?.answers[place]?.problem?.code).includes(MAY_NOT_DOWNLOAD);
  return (
    <>
      <p class="lead">
        The same name answers twice: at the origin, and in this browser with <code>graft/browser</code>, as in
        a page of your own. Your prompt goes to both.
      </p>
      <BaseCard />
      <ParameterFields setup={setup} onChange={setUpBrowser} />
      <Suggestions id="models" of={suggestions} />
      <label class="field browser-name">
        <span>Adapter or base, for both</span>
        <input
          list="models"
          value={model}
          placeholder="team/name"
          autocomplete="off"
          spellcheck={false}
          // A late guess must not interrupt the user's typing.
          onFocus={(event) => setUpBrowser({ name: event.currentTarget.value.trim() })}
          onInput={(event) => setUpBrowser({ name: event.currentTarget.value.trim() })}
        />
      </label>
      <KeyProblem {...trouble} onKey={props.onKey} />
      {mayNot && (
        <NoDownload
          onKey={(key) => {
            beginAnew();
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
                    ? "Its turn comes after the origin's answer."
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
        onPrompt={(prompt) => setUpBrowser({ prompt })}
        onAsk={() => {
          const name = bases.includes(model) || model === 'base' ? null : model;
          void askBoth({ key: apiKey, model, name, apart: isApart });
        }}
      >
        <button type="button" disabled={!running} onClick={stopBoth}>
          <Icon of={Square} />
          Stop
        </button>
        <button type="button" disabled={turns.length === 0} onClick={beginAnew}>
          <Icon of={MessageSquarePlus} />
          New conversation
        </button>
        <label class="check" title="On one machine, each would slow down the other.">
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

/** The key is valid, but must not let pages download adapters. */
function NoDownload({ onKey }: { onKey: (key: string) => void }) {
  return (
    <section class="card browser-key" aria-label="A key that may download">
      <h2>A key that may download</h2>
      <p>
        This page downloads adapter weights, which a key must allow:{' '}
        <code class="nowrap">graft keys create --download</code> creates one,{' '}
        <code class="nowrap">graft keys change &lt;id&gt; --download</code> changes one. It covers adapters of
        its own tenant.
      </p>
      <ApiKeyForm onKey={onKey} />
    </section>
  );
}

/** How far apart the two last answers are: their texts, and the distributions of their tokens. */
function Comparison({ turn }: { turn: BrowserTurn | null }) {
  const { origin, browser } = turn?.answers ?? { origin: null, browser: null };
  if (origin?.state !== 'done' || browser?.state !== 'done') return null;
  const isSameAdapter = origin.adapter === browser.adapter;
  const found = divergence(origin.scores, browser.scores);
  return (
    <p class="facts" role="status">
      {origin.text === browser.text ? (
        <span>Both answers are the same, letter by letter.</span>
      ) : (
        <span>The answers differ.</span>
      )}
      {found !== null && (
        <span>
          {' '}
          <abbr
            tabIndex={0}
            title={
              'Kullback-Leibler divergence of the next token’s distribution, from the origin’s to the ' +
              `browser's, before temperature: the mean over the ${found.tokens} tokens where both had ` +
              'the same text before. Each side reports at most its 20 likeliest tokens, of which ' +
              `${number(found.shared)} are shared on average; all others count as one, so this is a ` +
              'lower bound.'
            }
          >
            KL divergence
          </abbr>{' '}
          <strong>{nats(found.nats)} nats</strong> over {found.tokens}{' '}
          {found.tokens === 1 ? 'token' : 'tokens'}
          {found.tokens < origin.scores.length && ', up to where the texts differ'}.
        </span>
      )}
      {!isSameAdapter && (
        <span>
          {' '}
          They come from different adapters: {origin.adapter ?? 'the base'} at the origin,{' '}
          {browser.adapter ?? 'the base'} in the browser.
        </span>
      )}
    </p>
  );
}

/** Below a ten-thousandth, digits are rounding. */
const nats = (value: number): string => (value < 1e-4 ? '< 0.0001' : number(value));

/** The base in this browser: its id and size before the download, its progress, and its runtime. */
function BaseCard() {
  const manifest = useLoad('web base', () => createClient(null).get('/base/base.json', WebBaseManifest));
  const engine = useStore(browserEngine);
  useEffect(() => void lookAtStored(), []);
  return (
    <section class="card browser-base" aria-label="The base in this browser">
      {manifest.problem?.code === 'not_found' ? (
        <NoBase onRetry={() => void manifest.reload()} />
      ) : (
        <ProblemNote problem={manifest.problem} onRetry={() => void manifest.reload()} />
      )}
      {engine.at === 'closed' && <ProblemNote problem={engine.problem} />}
      {engine.at === 'opening' && <Opening progress={engine.progress} />}
      {engine.at === 'open' && (
        <p>
          <strong>{engine.model.base}</strong> on {engine.model.runtime}. Conversations have up to{' '}
          {engine.model.context.toLocaleString('en-US')} tokens.
        </p>
      )}
      {engine.at === 'open' && engine.progress !== null && (
        <Bar words="Downloading the adapter" {...engine.progress} />
      )}
      {engine.at === 'closed' && manifest.data !== null && (
        <Closed manifest={manifest.data} stored={engine.stored} />
      )}
      {engine.at === 'open' && <Remove />}
    </section>
  );
}

function Closed({ manifest, stored }: { manifest: WebBaseManifest; stored: number | null }) {
  const size = manifest.parts.reduce((sum, part) => sum + part.bytes, 0);
  const isKept = stored !== null && stored >= size;
  return (
    <>
      <p>
        <strong>{manifest.base.id}</strong>, {bytes(size)}.{' '}
        {isKept
          ? `Stored in this browser: ${bytes(stored)} with adapters.`
          : 'It is downloaded once and kept by this browser; an adapter is downloaded with its first prompt.'}
        {stored !== null && stored > 0 && !isKept && ` ${bytes(stored)} are here already.`}
      </p>
      <div class="actions">
        <button type="button" class="main" onClick={() => void openBrowserEngine()}>
          <Icon of={isKept ? Play : Download} />
          {isKept ? 'Start it' : `Download ${bytes(size)} and start`}
        </button>
        {stored !== null && stored > 0 && <Remove />}
      </div>
    </>
  );
}

const Remove = () => (
  <button type="button" onClick={() => void removeBrowserEngine()}>
    <Icon of={Trash2} />
    Remove what is stored here
  </button>
);

const STAGES = {
  check: 'Checking stored files against their digests',
  base: 'Downloading the base',
  runtime: 'Starting',
  adapter: 'Downloading the adapter',
} as const;

function Opening({
  progress,
}: {
  progress: { stage: keyof typeof STAGES; done: number; total: number } | null;
}) {
  return (
    <>
      <Bar
        words={progress === null ? 'Starting' : STAGES[progress.stage]}
        done={progress?.done ?? 0}
        total={progress?.total ?? 0}
        steps={progress?.stage === 'runtime'}
      />
      <div class="actions">
        <button type="button" onClick={stopOpening}>
          Stop
        </button>
      </div>
    </>
  );
}

function Bar(props: { words: string; done: number; total: number; steps?: boolean }) {
  const { words, done, total } = props;
  const isCounted = total > 0 && props.steps !== true;
  return (
    <p class="browser-bar" role="status">
      <span>{words}</span>
      <progress {...(total > 0 ? { max: total, value: done } : {})} aria-label={words} />
      {isCounted && (
        <span class="hint">
          {bytes(done)} of {bytes(total)}
        </span>
      )}
    </p>
  );
}

function NoBase({ onRetry }: { onRetry: () => void }) {
  return (
    <div class="note alarm" role="alert">
      <p>
        <strong>This edge has no base for browsers.</strong> <code>graft base export --web</code> writes one
        from the base of its origins, among the files that the edge serves; a deployed edge must then be
        deployed again. Anyone who can read these files has the base’s weights.
      </p>
      <button type="button" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}

const PLACES = ['origin', 'browser'] as const;
type Place = (typeof PLACES)[number];

type BrowserTurn = TurnOf<Place, Answer>;

interface BrowserChat {
  readonly setup: BrowserSetup;
  /** Oldest first. */
  readonly turns: readonly BrowserTurn[];
}

/** Log-probabilities of each token, so that both distributions can be compared; the edge's maximum. */
const SCORES = { logprobs: true, top_logprobs: 20 };

/** The conversations in the browser and at the origin. They last until the document is left. */
const browserStore = createStore<BrowserChat>({ setup: EMPTY_BROWSER_SETUP, turns: [] });

let asking: AbortController | null = null;

const change = (part: Partial<BrowserChat>): void => browserStore.set({ ...browserStore.get(), ...part });

const setUpBrowser = (part: Partial<BrowserSetup>): void =>
  change({ setup: { ...browserStore.get().setup, ...part } });

/**
 * Asks both; pending answers are aborted. Both get the origin's earlier answers, so that they always answer the
 * same conversation.
 * @param params.model for the edge. @param params.name for graft/browser; null = the base itself.
 * @param params.apart the browser starts after the origin has ended: on one machine each would slow the other.
 */
async function askBoth(params: {
  key: string;
  model: string;
  name: string | null;
  apart: boolean;
}): Promise<void> {
  const { key, model, name, apart } = params;
  asking?.abort();
  const ending = (asking = new AbortController());
  const { signal } = ending;
  const { setup, turns } = browserStore.get();
  const { prompt } = setup;
  change({
    turns: [...turns, { prompt, answers: { origin: null, browser: null } }],
    setup: { ...setup, prompt: '' },
  });
  const said = turns.map((turn) => ({ prompt: turn.prompt, answer: turn.answers.origin?.text ?? '' }));
  const body = { ...chatBody(model, setup, said, prompt), ...SCORES };
  const hear = (place: Place) => (answer: Answer) => {
    const answered = withAnswer(browserStore.get().turns, { at: turns.length, place, answer });
    if (asking === ending && answered !== null) change({ turns: answered });
  };
  const atOrigin = streamChat({ key, body, signal, onAnswer: hear('origin') });
  if (apart) await atOrigin;
  if (signal.aborted) return;
  await answerInBrowser({ key, name, body, signal, onAnswer: hear('browser') });
}

const stopBoth = (): void => asking?.abort();

/** A new conversation; the settings stay. */
function beginAnew(): void {
  asking?.abort();
  asking = null;
  change({ turns: [] });
}
