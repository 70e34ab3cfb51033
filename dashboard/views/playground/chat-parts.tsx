import type { ComponentChildren, FunctionComponent } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { Answer } from '../../api/stream-chat.ts';
import type { Piece } from '../../model/answer-difference.ts';
import { tokensPerSecond, ttft } from '../../model/chat-events.ts';
import { createStore } from '../../model/store.ts';
import { duration, number } from '../../model/words.ts';
import { CopyButton } from '../../parts/copy-button.tsx';
import { ProblemNote } from '../../parts/notes.tsx';
import { useStore, useLoad } from '../../parts/hooks.ts';
import { SendHorizontal } from 'lucide';
import { Icon } from '../../parts/icon.tsx';
import { DEFAULT_PARAMETERS, type Asked, type Parameters } from '../../model/playground-setup.ts';
import { ModelList } from '../../../protocol/completion-answers.ts';
import { type Client, readNames } from '../../api/client.ts';
import type { Problem } from '../../model/problem.ts';
import { byName, suggestName, type Suggestion } from '../../model/names.ts';

const STATES: Record<Answer['state'], string> = {
  running: 'streaming',
  done: 'done',
  stopped: 'stopped',
  failed: 'failed',
};

/** Whether answers are shown as the raw text of the model. */
const asText = createStore(false);
/** The Markdown renderer; null = not loaded yet, answers are text until then. */
const drawer = createStore<FunctionComponent<{ text: string }> | null>(null);

export function AsTextSwitch() {
  return (
    <label class="check" title="By default, answers are rendered as the Markdown that models write.">
      <input
        type="checkbox"
        checked={useStore(asText)}
        onChange={(event) => asText.set(event.currentTarget.checked)}
      />
      <span>As text</span>
    </label>
  );
}

/** A prompt and its answer. @param props.pieces differences from another answer; null = not marked. */
export function AnswerText(props: {
  prompt: string;
  answer: Answer;
  pieces: readonly Piece[] | null;
  /** Text to copy. */
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

/** Speed and source of an answer; empty for one from before the page was loaded. */
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

/** Pixels from the end of the page within which the reader counts as being at the end. */
const NEAR_END = 48;

/** Grid rows of a side, so that answers to one prompt line up. @param others rows besides the turns. */
export const rowsOf = (turns: number, others: number): { gridRow: string } => ({
  gridRow: `span ${Math.max(1, turns) + others}`,
});

/**
 * Conversations side by side. New turns, and growth below a reader at the end, are scrolled into view, because
 * the composer would cover the end of the page. A reader who has scrolled up is left alone.
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
    let height = page.scrollHeight;
    const look = () => {
      // A page that grows or shrinks scrolls by itself, too: only a scroll of a page as it was is the reader's.
      const same = page.scrollHeight === height;
      height = page.scrollHeight;
      const isNear = height - page.clientHeight - scrollY <= NEAR_END;
      if (same || isNear) isAtEnd.current = isNear;
    };
    const follow = new ResizeObserver(() => {
      height = page.scrollHeight;
      if (isAtEnd.current) scrollTo(0, height);
    });
    follow.observe(element);
    // The composer below grows and shrinks as well.
    if (element.parentElement !== null) follow.observe(element.parentElement);
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

/** On-screen keyboards have no Shift + Enter: there Enter starts a new line. */
const hasKeyboard = matchMedia('(any-pointer: fine)');

/** Input of the next prompt. @param props.children shown beside the send button. */
export function Composer(props: {
  prompt: string;
  running: boolean;
  canAsk: boolean;
  onPrompt: (prompt: string) => void;
  onAsk: () => void;
  children: ComponentChildren;
}) {
  const mayAsk = !props.running && props.canAsk;
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        props.onAsk();
      }}
    >
      <label class="field">
        <span>Prompt, for both</span>
        <textarea
          rows={2}
          dir="auto"
          required
          value={props.prompt}
          placeholder="Ask both sides the same"
          onInput={(event) => props.onPrompt(event.currentTarget.value)}
          onKeyDown={(event) => {
            // Enter also confirms suggestions of an input method.
            if (event.key !== 'Enter' || event.shiftKey || event.isComposing || !hasKeyboard.matches) return;
            event.preventDefault();
            if (mayAsk) event.currentTarget.form?.requestSubmit();
          }}
        />
      </label>
      <div class="actions">
        <button type="submit" class="main" disabled={!mayAsk}>
          <Icon of={SendHorizontal} />
          Ask both
        </button>
        {props.children}
        {hasKeyboard.matches && <span class="hint">Enter sends, Shift + Enter adds a line.</span>}
      </div>
    </form>
  );
}

/** Numeric settings of a request, as in protocol/request-fields.ts. */
const NUMBERS = [
  { field: 'temperature', label: 'Temperature', min: 0, max: 2, step: 0.1 },
  { field: 'top_p', label: 'Top p', min: 0, max: 1, step: 0.05 },
  { field: 'max_tokens', label: 'Max tokens', min: 1, max: undefined, step: 1 },
  { field: 'seed', label: 'Seed', min: undefined, max: undefined, step: 1 },
] as const;

/** System message and sampling, for both sides. */
export function ParameterFields(props: { setup: Asked; onChange: (part: Partial<Asked>) => void }) {
  const { setup, onChange } = props;
  const { parameters, system } = setup;
  const set = (part: Partial<Parameters>) => onChange({ parameters: { ...parameters, ...part } });
  const isSet = (field: keyof Parameters): boolean => parameters[field] !== DEFAULT_PARAMETERS[field];
  const fields = Object.keys(DEFAULT_PARAMETERS) as (keyof Parameters)[];
  // Only the initial state; later it is opened and closed by hand.
  const [isOpen] = useState(() => system !== '' || fields.some(isSet));
  return (
    <details class="settings" open={isOpen}>
      <summary>
        System message and parameters{' '}
        <span class="hint">
          {[
            ...(system === '' ? [] : ['a system message']),
            ...NUMBERS.flatMap(({ field, label }) =>
              parameters[field] === '' ? [] : [`${label.toLowerCase()} ${parameters[field]}`],
            ),
          ].join(', ')}
        </span>
      </summary>
      <label class="field">
        <span>System message</span>
        <textarea
          rows={2}
          dir="auto"
          value={system}
          placeholder="You are …"
          onInput={(event) => onChange({ system: event.currentTarget.value })}
        />
      </label>
      <div class="numbers">
        {NUMBERS.map(({ field, label, min, max, step }) => (
          <label key={field} class="field">
            <span>{label}</span>
            <input
              type="number"
              {...(min === undefined ? {} : { min })}
              {...(max === undefined ? {} : { max })}
              step={step}
              value={parameters[field]}
              placeholder="default"
              onInput={(event) => set({ [field]: event.currentTarget.value })}
            />
          </label>
        ))}
        <label class="field">
          <span>Stop texts, one per line</span>
          <textarea
            rows={1}
            value={parameters.stop}
            onInput={(event) => set({ stop: event.currentTarget.value })}
          />
        </label>
      </div>
    </details>
  );
}

interface Models {
  /** Bases, and names known to the keys. */
  readonly known: string[];
  readonly bases: string[];
  /** The known ones, with state and description. */
  readonly suggestions: readonly Suggestion[];
  /** Everything that is known has been read. */
  readonly settled: boolean;
  /** As shown by `KeyProblem`. */
  readonly trouble: {
    /** Why the API key is not valid, or no longer; null = it is, as far as known. */
    readonly refused: Problem | null;
    /** Why nothing is known; null = something is, or is still being read. */
    readonly problem: Problem | null;
    /** Reads everything again, including whether the key is still valid. */
    onRetry(): void;
  };
}

/**
 * Models that can be asked. @param api with the API key. @param isRefused a request was refused: everything is
 * read again.
 */
export function useModels(client: Client, api: Client, isRefused: boolean): Models {
  // Another key may have other models.
  const keys = useRef({ api, count: 0 });
  if (keys.current.api !== api) keys.current = { api, count: keys.current.count + 1 };
  const models = useLoad(`models ${keys.current.count}`, () => api.get('/v1/models', ModelList));
  const names = useLoad('names', () => readNames(client));
  const origins = useLoad('base', () => client.call('GET /admin/origins', {}));
  const bases = [...new Set(origins.data?.origins.flatMap((origin) => origin.base?.id ?? []))];
  const known = new Set([
    ...(models.data?.data ?? []).map(({ id }) => id),
    ...(names.data?.entries ?? []).map(({ name }) => name),
  ]);
  const abouts = new Map([
    ...bases.map((id) => [id, 'the base'] as const),
    ...(names.data?.entries ?? []).map((entry) => [entry.name, suggestName(entry).about] as const),
  ]);
  const settled = [models, names, origins].every(({ data, problem }) => data !== null || problem !== null);
  const onRetry = () => void Promise.all([models, names, origins].map(({ reload }) => reload()));
  useEffect(() => {
    if (isRefused) onRetry();
  }, [isRefused]);
  const sorted = [...known].sort(byName);
  return {
    known: sorted,
    bases,
    suggestions: sorted.map((value) => ({ value, about: abouts.get(value) ?? '' })),
    settled,
    trouble: {
      refused: models.problem?.code === 'invalid_api_key' ? models.problem : null,
      problem: settled && known.size + bases.length === 0 ? models.problem : null,
      onRetry,
    },
  };
}

/** At most twice a second: browsers accept no more than 100 address changes in 10 to 30 s, and Safari throws. */
const EVERY_MS = 500;

/** Keeps the settings in the view's address. @param hash such as `#/playground?left=medicine`. */
export function useAddress(hash: string): void {
  const written = useRef(0);
  useEffect(() => {
    const [view] = hash.split('?');
    const write = () => {
      written.current = Date.now();
      if (location.hash.split('?')[0] === view) history.replaceState(null, '', hash);
    };
    const wait = written.current + EVERY_MS - Date.now();
    if (wait <= 0) return write();
    const timer = setTimeout(write, wait);
    return () => clearTimeout(timer);
  }, [hash]);
}
