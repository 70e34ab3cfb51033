import { useEffect, useState } from 'preact/hooks';
import { NewKey } from '../../protocol/admin-api/keys.ts';
import { ok, type Result } from '../../protocol/api-error.ts';
import { SignInAnswer } from '../../protocol/api-key.ts';
import { createClient } from '../api/client.ts';
import { Mark } from '../frame/navigation.tsx';
import { apiKeyInstead, linkProblem, type Problem } from '../model/problem.ts';
import { ProblemNote } from '../parts/notes.tsx';
import { KeyForm } from '../parts/key-form.tsx';

export function SignIn({ onKey }: { onKey: (key: string) => void }) {
  return (
    <main class="sign-in">
      <h1 class="brand">
        <Mark />
        graft
      </h1>
      <KeyForm
        label="Admin key"
        hint="It begins with ga_. It stays in this tab, until you sign out or close it."
        act="Sign in"
        onKey={async (key) => {
          if (key.startsWith('gk_')) return apiKeyInstead();
          const answer = await createClient(key).call('GET /admin/names', {});
          if (!answer.ok) return answer.error;
          onKey(key);
          return null;
        }}
      />
      {/* Whoever opens the page has not said yet what serves it: both are named. */}
      <p class="hint">
        On your own machine <code>npm start</code> and <code>graft dev</code> print a link that signs you in
        once. The key is <code>adminKey</code> in <code>.graft/local.json</code>.
      </p>
      <p class="hint">
        For a deployment, <code>graft secrets</code> and <code>graft deploy</code> wrote the first key to{' '}
        <code>admin-key</code>. <code class="nowrap">graft keys create --admin</code> makes more.
      </p>
    </main>
  );
}

interface Keys {
  readonly admin: string;
  /** null = the playground will ask for one. */
  readonly api: string | null;
}

/** How long the playground's key is good: a working day. */
const LENT_MS = 12 * 60 * 60 * 1000;

/** Takes the token out of the address at once, exchanges it for keys, and goes on to the first view. */
export function SignInByLink(params: { token: string; onKeys: (keys: Keys) => void }) {
  const { token, onKeys } = params;
  const [problem, setProblem] = useState<Problem | null>(null);
  const signIn = async () => {
    setProblem(null);
    const answer = await exchange(token);
    if (!answer.ok) return setProblem(linkProblem(answer.error));
    onKeys(answer.value);
    dispatchEvent(new HashChangeEvent('hashchange'));
  };
  useEffect(() => {
    history.replaceState(null, '', '#/');
    void signIn();
    // The link is used once; the token never changes without the page being loaded.
  }, []);
  return (
    <main class="sign-in">
      <h1 class="brand">
        <Mark />
        graft
      </h1>
      {problem === null ? (
        <p>Signing in…</p>
      ) : (
        <>
          <ProblemNote problem={problem} />
          <div class="actions">
            {/* The link is in no address any more. */}
            {problem.code === 'no_answer' && (
              <button type="button" class="main" onClick={() => void signIn()}>
                Try again
              </button>
            )}
            <button type="button" onClick={() => dispatchEvent(new HashChangeEvent('hashchange'))}>
              Sign in with a key
            </button>
          </div>
        </>
      )}
    </main>
  );
}

async function exchange(token: string): Promise<Result<Keys, Problem>> {
  const answer = await createClient(null).post('/dashboard/sign-in', { token }, SignInAnswer);
  if (!answer.ok) return answer;
  const admin = answer.value.admin_key;
  return ok({ admin, api: await lendApiKey(admin) });
}

async function lendApiKey(admin: string): Promise<string | null> {
  // May download, for what runs in the browser: the admin key beside it, of the operator of this machine's own edge, opens
  // the same adapters' bytes already.
  const body = { scopes: ['**'], label: 'dashboard', expires_in: LENT_MS, download: true };
  const made = await createClient(admin).call('POST /admin/keys', {
    body,
    as: NewKey.required({ key: true }),
  });
  return made.ok ? made.value.key : null;
}
