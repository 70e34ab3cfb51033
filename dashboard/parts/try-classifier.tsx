import { useState } from 'preact/hooks';
import { ClassifyAnswer } from '../../protocol/classify.ts';
import { createClient } from '../api/client.ts';
import type { Problem } from '../model/problem.ts';
import { percent } from '../model/words.ts';
import { ApiKeyForm } from './key-form.tsx';
import { ProblemNote } from './notes.tsx';
import { storedKey } from '../session.ts';

/** Asks a version with a classification head for the class of a text, or for the number of a head of one output. */
export function TryClassifier({ model, classes }: { model: string; classes: number }) {
  const [key, setKey] = useState(() => storedKey('api'));
  const [text, setText] = useState('');
  const [asked, setAsked] = useState<{ text: string; words: string } | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const ask = async () => {
    if (busy) return;
    setBusy(true);
    const body = { model, input: text, use_activation: classes > 1 };
    const answer = await createClient(key).post('/v1/classify', body, ClassifyAnswer);
    setBusy(false);
    setProblem(answer.ok ? null : answer.error);
    const [found] = answer.ok ? answer.value.data : [];
    if (found === undefined) return;
    const words =
      classes === 1
        ? String(Number((found.probs[0] ?? 0).toPrecision(4)))
        : `${found.label}, ${percent(Math.max(...found.probs))}`;
    setAsked({ text, words });
  };
  if (key === null) return <ApiKeyForm onKey={setKey} />;
  return (
    <form
      aria-label={`Try ${model}`}
      onSubmit={(event) => {
        event.preventDefault();
        void ask();
      }}
    >
      <label class="field">
        <span>Text to classify</span>
        <textarea required rows={2} value={text} onInput={(event) => setText(event.currentTarget.value)} />
      </label>
      <div class="actions">
        <button type="submit" class="main" disabled={busy}>
          {busy ? 'Asking …' : 'Classify it'}
        </button>
      </div>
      <p role="status" class="hint">
        {asked !== null && (
          <>
            “{asked.text}”: <strong>{asked.words}</strong>
          </>
        )}
      </p>
      <ProblemNote problem={problem} />
    </form>
  );
}
