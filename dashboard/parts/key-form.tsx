import { useId, useState } from 'preact/hooks';
import { ModelList } from '../../protocol/completion-answers.ts';
import { createClient } from '../api/client.ts';
import type { Problem } from '../model/problem.ts';
import { storeKey } from '../session.ts';
import { ProblemNote } from './notes.tsx';

/** Asks for a key, and keeps it only if it is valid. */
export function KeyForm(props: {
  label: string;
  hint: string;
  act: string;
  /** @returns null when the key was accepted. */
  onKey: (key: string) => Promise<Problem | null>;
}) {
  const [key, setKey] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const id = useId();
  const submit = async () => {
    setBusy(true);
    const failed = await props.onKey(key.trim());
    setBusy(false);
    setProblem(failed);
  };
  return (
    <form
      class="key-form"
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      <label class="field" for={id}>
        <span>{props.label}</span>
      </label>
      <div class="joined">
        <input
          id={id}
          type="password"
          required
          autocomplete="off"
          spellcheck={false}
          aria-describedby={`${id}-hint`}
          value={key}
          onInput={(event) => setKey(event.currentTarget.value)}
        />
        <button type="submit" class="main" disabled={busy}>
          {busy ? 'Checking …' : props.act}
        </button>
      </div>
      <p class="hint" id={`${id}-hint`}>
        {props.hint}
      </p>
      <ProblemNote problem={problem} />
    </form>
  );
}

/** Asks for the API key that requests use, and keeps it. */
export function ApiKeyForm({ onKey }: { onKey: (key: string) => void }) {
  return (
    <KeyForm
      label="API key"
      hint="It begins with gk_; admin keys cannot be used for requests. It stays in this tab until you sign out or close it."
      act="Use it"
      onKey={async (given) => {
        const answer = await createClient(given).get('/v1/models', ModelList);
        if (!answer.ok) return answer.error;
        storeKey('api', given);
        onKey(given);
        return null;
      }}
    />
  );
}

/** Why no request is possible; for an expired or revoked key, with a field for another. */
export function KeyProblem(props: {
  refused: Problem | null;
  problem: Problem | null;
  onRetry: () => void;
  onKey: (key: string) => void;
}) {
  const { refused, problem, onRetry, onKey } = props;
  return refused === null ? (
    <ProblemNote problem={problem} onRetry={onRetry} />
  ) : (
    <section class="card browser-key" aria-label="Another API key">
      <p role="alert">
        <strong>{refused.message}</strong> Use another key to continue.
      </p>
      <ApiKeyForm onKey={onKey} />
    </section>
  );
}
