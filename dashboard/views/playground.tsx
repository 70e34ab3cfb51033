import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { ModelList } from '../../protocol/models.ts';
import { createClient, type Client } from '../api/client.ts';
import { streamChat, type Answer } from '../api/stream-chat.ts';
import { tokensPerSecond, ttft } from '../model/pace.ts';
import { duration, number } from '../model/words.ts';
import { KeyForm } from '../parts/key-form.tsx';
import { ProblemNote } from '../parts/problem-note.tsx';
import { useLoad } from '../parts/use-load.ts';
import { storedKey, storeKey } from '../session.ts';

const MAX_TOKENS = 256;

export function PlaygroundView({ client }: { client: Client }) {
  const [key, setKey] = useState(() => storedKey('api'));
  return (
    <>
      <h1>Playground</h1>
      {key === null ? (
        <KeyForm
          label="API key"
          hint="It begins with gk_; admin keys may not ask models. It stays in this tab, until you sign out or close it."
          act="Use it"
          onKey={async (given) => {
            const answer = await createClient(given).get('/v1/models', ModelList);
            if (!answer.ok) return answer.error;
            storeKey('api', given);
            setKey(given);
            return null;
          }}
        />
      ) : (
        <Sides client={client} apiKey={key} />
      )}
    </>
  );
}

function Sides({ client, apiKey }: { client: Client; apiKey: string }) {
  const api = useMemo(() => createClient(apiKey), [apiKey]);
  const models = useLoad('models', () => api.get('/v1/models', ModelList));
  const names = useLoad('names', () => client.call('GET /admin/names', {}));
  const origins = useLoad('base', () => client.call('GET /admin/origins', {}));
  const bases = new Set(origins.data?.origins.flatMap((origin) => origin.base?.id ?? []));
  const [base = ''] = bases;
  const known = [
    ...new Set([
      ...(models.data?.data ?? []).map(({ id }) => id),
      ...(names.data?.names ?? []).map(({ name }) => name),
    ]),
  ];
  const [prompt, setPrompt] = useState('');
  const [chosen, setChosen] = useState<[string | null, string | null]>([null, null]);
  const [answers, setAnswers] = useState<[Answer | null, Answer | null]>([null, null]);
  const stop = useRef<AbortController | null>(null);
  const running = answers.some((answer) => answer?.state === 'running');
  useEffect(() => () => stop.current?.abort(), []);

  const guess: [string, string] = [base, known.find((id) => !bases.has(id)) ?? ''];
  const sides: [string, string] = [chosen[0] ?? guess[0], chosen[1] ?? guess[1]];
  const choose = (side: 0 | 1, model: string) =>
    setChosen((before) => (side === 0 ? [model, before[1]] : [before[0], model]));

  const ask = () => {
    stop.current?.abort();
    const ending = new AbortController();
    stop.current = ending;
    setAnswers([null, null]);
    for (const side of [0, 1] as const) {
      const model = sides[side];
      if (model === '') continue;
      void streamChat({
        key: apiKey,
        body: { model, messages: [{ role: 'user', content: prompt }], max_tokens: MAX_TOKENS },
        signal: ending.signal,
        onAnswer: (answer) => {
          // Of an earlier question, which was given up for this one.
          if (stop.current !== ending) return;
          setAnswers((before) => (side === 0 ? [answer, before[1]] : [before[0], answer]));
        },
      });
    }
  };

  return (
    <>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          ask();
        }}
      >
        <label class="field">
          <span>Prompt, for both</span>
          <textarea
            rows={3}
            required
            value={prompt}
            onInput={(event) => setPrompt(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key === 'Enter' && (event.metaKey || event.ctrlKey))
                event.currentTarget.form?.requestSubmit();
            }}
          />
        </label>
        <datalist id="models">
          {known.map((id) => (
            <option key={id} value={id} />
          ))}
        </datalist>
        <div class="actions">
          <button type="submit" class="main" disabled={running || sides.every((side) => side === '')}>
            Ask both
          </button>
          <button type="button" disabled={!running} onClick={() => stop.current?.abort()}>
            Stop
          </button>
          <span class="hint">Ctrl + Enter asks. Temperature 0, at most {MAX_TOKENS} tokens.</span>
        </div>
        <div class="sides">
          {([0, 1] as const).map((side) => (
            <Side
              key={side}
              label={side === 0 ? 'Left' : 'Right'}
              model={sides[side]}
              answer={answers[side]}
              onModel={(model) => choose(side, model)}
            />
          ))}
        </div>
      </form>
    </>
  );
}

const STATES: Record<Answer['state'], string> = {
  running: 'streaming',
  done: 'done',
  stopped: 'stopped',
  failed: 'failed',
};

function Side(props: {
  label: string;
  model: string;
  answer: Answer | null;
  onModel: (model: string) => void;
}) {
  const { answer, label } = props;
  const first = answer === null ? null : ttft(answer.pace);
  const speed = answer === null ? null : tokensPerSecond(answer.pace);
  return (
    <section class="card" aria-label={`${label} side`}>
      <label class="field">
        <span>{label}: adapter, version or base</span>
        <input
          list="models"
          value={props.model}
          placeholder="team/name or team/name@2"
          autocomplete="off"
          spellcheck={false}
          // Who types here is not interrupted by a guess that arrives late.
          onFocus={(event) => props.onModel(event.currentTarget.value.trim())}
          onInput={(event) => props.onModel(event.currentTarget.value.trim())}
        />
      </label>
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
          <dd>{answer === null ? '–' : (answer.pace.tokens ?? answer.pace.pieces)}</dd>
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
      <p class="answer" aria-live="polite" aria-busy={answer?.state === 'running'}>
        {answer === null || answer.text === '' ? (
          <span class="hint">{answer?.state === 'running' ? 'Waiting …' : 'No answer yet.'}</span>
        ) : (
          answer.text
        )}
      </p>
      {answer !== null && (
        <p class="hint">
          {STATES[answer.state]}
          {answer.degraded !== null && `; degraded: ${answer.degraded}`}
        </p>
      )}
      <ProblemNote problem={answer?.problem ?? null} />
    </section>
  );
}
