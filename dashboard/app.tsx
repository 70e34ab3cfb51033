import { useEffect, useMemo, useState, useId } from 'preact/hooks';
import { createClient, type Client, readNames } from './api/client.ts';
import { OfflineNote, ProblemNote, Toasts } from './parts/notes.tsx';
import { viewOf, type View, hashOf } from './model/view.ts';
import { routeOf, ROUTES, type Route } from './routes.tsx';
import { forgetAll, storedKey, storeKey } from './session.ts';
import { clearPlayground } from './playground-store.ts';
import { countProposals, proposals } from './proposals.ts';
import { Layers, LogOut, Search } from 'lucide';
import { byName, fit, isFound } from './model/names.ts';
import { Icon } from './parts/icon.tsx';
import { useModal } from './parts/dialog.tsx';
import { useLoad, useStore } from './parts/hooks.ts';
import { NewKey } from '../protocol/admin-api/keys.ts';
import { ok, type Result } from '../protocol/api-error.ts';
import { SignInAnswer } from '../protocol/identity.ts';
import { apiKeyInstead, linkProblem, type Problem } from './model/problem.ts';
import { KeyForm } from './parts/key-form.tsx';

/** An experiment runs for days: soon enough, and few requests of a forgotten tab. */
const PROPOSALS_EVERY_MS = 300_000;

/** The document of most views. */
const CONSOLE = '/dashboard';

export function App() {
  const [key, setKey] = useState(() => storedKey('admin'));
  const address = useView();
  const client = useMemo(() => (key === null ? null : createClient(key)), [key]);
  const [isSearching, setSearching] = useState(false);
  const { route, view } = routeOf(address);
  const page = route.page ?? CONSOLE;
  // Each view needs the document whose policy fits it.
  const isElsewhere =
    client !== null && address.at !== 'sign-in' && page !== location.pathname.replace(/\/$/, '');
  useEffect(() => {
    if (isElsewhere) location.replace(page + location.hash);
  }, [isElsewhere, page]);
  const proposed = useStore(proposals);
  useEffect(() => {
    const mark = proposed === 0 ? '' : `(${proposed}) `;
    document.title = client === null ? 'graft' : `${mark}${view.about ?? route.label} · graft`;
  }, [client, view.about, route.label, proposed]);
  useEffect(() => {
    if (client === null || isElsewhere) return;
    void countProposals(client);
    // Also in a hidden tab, whose title is what its owner sees.
    const timer = setInterval(() => void countProposals(client), PROPOSALS_EVERY_MS);
    return () => clearInterval(timer);
  }, [client, isElsewhere]);
  useEffect(() => {
    if (client === null) return;
    const onKey = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== 'k' || !(event.ctrlKey || event.metaKey) || event.altKey) return;
      event.preventDefault();
      // An open dialog must be answered first.
      if (document.querySelector('dialog[open]') === null) setSearching(true);
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, [client]);
  if (address.at === 'sign-in')
    return (
      <SignInByLink
        token={address.about ?? ''}
        onKeys={({ admin, api }) => {
          storeKey('admin', admin);
          if (api !== null) storeKey('api', api);
          setKey(admin);
        }}
      />
    );
  if (client === null)
    return (
      <SignIn
        onKey={(given) => {
          storeKey('admin', given);
          setKey(given);
        }}
      />
    );
  if (isElsewhere) return null;
  return (
    <div class="frame">
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          // The address stays that of the view.
          event.preventDefault();
          document.getElementById('main')?.focus();
        }}
      >
        To the content
      </a>
      <Navigation
        route={route}
        onSearch={() => setSearching(true)}
        onSignOut={() => {
          clearPlayground();
          forgetAll();
          proposals.set(0);
          // Another document may hold a conversation, and a base.
          if (page === CONSOLE) setKey(null);
          else location.replace(CONSOLE);
        }}
      />
      <main id="main" tabIndex={-1}>
        <OfflineNote client={client} />
        {route.show({ client, view })}
      </main>
      {isSearching && <Palette client={client} onClose={() => setSearching(false)} />}
      <Toasts />
    </div>
  );
}

function useView(): View {
  const [view, setView] = useState(() => viewOf(location.hash));
  useEffect(() => {
    const onHash = () => setView(viewOf(location.hash));
    addEventListener('hashchange', onHash);
    return () => removeEventListener('hashchange', onHash);
  }, []);
  return view;
}

/** Beyond this, typing on is faster than scanning the list. */
const MAX_NAMES = 12;

/** Opens a view or a name by a few of its letters: Ctrl + K. */
function Palette({ client, onClose }: { client: Client; onClose: () => void }) {
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const id = useId();
  const names = useLoad('palette', () => readNames(client));
  // If not all names are loaded, ask the edge for those that begin with the search text.
  const [begins = ''] = text.trim().toLowerCase().split(/\s+/);
  const more = useLoad(names.data?.cut === true && begins !== '' ? `palette ${begins}` : null, () =>
    readNames(client, begins),
  );
  const modal = useModal(false, () => close());
  const close = () => {
    modal.close();
    onClose();
  };
  const views = ROUTES.filter(({ icon, label }) => icon !== null && isFound(label, text.trim())).sort(
    (a, b) => fit(a.label, text) - fit(b.label, text),
  );
  const found =
    text.trim() === ''
      ? []
      : [...new Set([names, more].flatMap(({ data }) => data?.entries.map(({ name }) => name) ?? []))]
          .filter((name) => isFound(name, text.trim()))
          .sort((a, b) => fit(a, text) - fit(b, text) || byName(a, b));
  const options = [
    ...views.map(({ at: view, label, icon }) => ({ label, icon, hash: hashOf({ at: view }) })),
    ...found
      .slice(0, MAX_NAMES)
      .map((name) => ({ label: name, icon: Layers, hash: hashOf({ at: 'adapters', name }) })),
  ];
  const chosen = Math.min(at, options.length - 1);
  // The list is half as high as the window.
  useEffect(() => document.getElementById(`${id}-${chosen}`)?.scrollIntoView({ block: 'nearest' }), [chosen]);
  const go = (hash: string) => {
    close();
    location.hash = hash;
  };
  return (
    <dialog
      {...modal.dialog}
      class="palette"
      aria-label="Go to a view or a name"
      onClick={(event) => {
        if (event.target === event.currentTarget) close();
      }}
    >
      <input
        role="combobox"
        aria-label="View or name"
        aria-expanded="true"
        aria-controls={`${id}-list`}
        aria-activedescendant={chosen < 0 ? undefined : `${id}-${chosen}`}
        placeholder="A view, or part of a name"
        autocomplete="off"
        spellcheck={false}
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
          if (step !== 0 && options.length > 0) {
            event.preventDefault();
            setAt((chosen + step + options.length) % options.length);
          }
          if (event.key === 'Enter' && options[chosen] !== undefined) {
            event.preventDefault();
            go(options[chosen].hash);
          }
        }}
      />
      <ul id={`${id}-list`} role="listbox" aria-label="Found">
        {options.map(({ label, icon, hash }, i) => (
          <li
            key={hash}
            id={`${id}-${i}`}
            role="option"
            aria-selected={i === chosen}
            onClick={() => go(hash)}
            onPointerMove={() => setAt(i)}
          >
            {icon !== null && <Icon of={icon} />}
            <span>{label}</span>
          </li>
        ))}
      </ul>
      <p class="hint">
        {options.length === 0
          ? names.loading || more.loading
            ? 'Looking …'
            : names.problem !== null || more.problem !== null
              ? 'The names could not be read; only views are found.'
              : 'Nothing found.'
          : found.length > MAX_NAMES
            ? `${MAX_NAMES} of ${found.length} names; type more to narrow the list.`
            : 'Arrow keys choose, Enter opens, Escape closes.'}
      </p>
    </dialog>
  );
}

function SignIn({ onKey }: { onKey: (key: string) => void }) {
  return (
    <main class="sign-in">
      <h1 class="brand">
        <Mark />
        graft
      </h1>
      <KeyForm
        label="Admin key"
        hint="It begins with ga_. It stays in this tab until you sign out or close it."
        act="Sign in"
        onKey={async (key) => {
          if (key.startsWith('gk_')) return apiKeyInstead();
          const answer = await createClient(key).call('GET /admin/names', {});
          if (!answer.ok) return answer.error;
          onKey(key);
          return null;
        }}
      />
      {/* The visitor may use either kind of deployment, so both are named. */}
      <p class="hint">
        On your own machine <code>npm start</code> and <code>graft dev</code> print a link that signs you in
        once. The key is <code>adminKey</code> in <code>.graft/local.json</code>.
      </p>
      <p class="hint">
        For a deployment, <code>graft secrets</code> and <code>graft deploy</code> wrote the first key to{' '}
        <code>admin-key</code>. <code class="nowrap">graft keys create --admin</code> creates more.
      </p>
    </main>
  );
}

interface Keys {
  readonly admin: string;
  /** null = the playground will ask for one. */
  readonly api: string | null;
}

/** Lifetime of the playground's key: a working day. */
const LENT_MS = 12 * 60 * 60 * 1000;

/** Removes the token from the address at once, exchanges it for keys, and opens the first view. */
function SignInByLink(params: { token: string; onKeys: (keys: Keys) => void }) {
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
    // The link works once; the token never changes without a reload.
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
            {/* The link is no longer in the address. */}
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
  // It may download, for inference in the browser: the admin key beside it already opens the same adapters'
  // bytes.
  const body = { scopes: ['**'], label: 'dashboard', expires_in: LENT_MS, download: true };
  const made = await createClient(admin).call('POST /admin/keys', {
    body,
    as: NewKey.required({ key: true }),
  });
  return made.ok ? made.value.key : null;
}

/** The same as in icon.svg, in the colour of the page. */
const Mark = () => (
  <svg class="mark" viewBox="0 0 16 16" aria-hidden="true">
    <path
      d="M8 15V7M8 9C4 9 3 6 3 2c4 0 5 3 5 7Zm0 2c3 0 5-2 5-6-4 0-5 3-5 6Z"
      fill="none"
      stroke="currentColor"
      stroke-width="1.6"
      stroke-linecap="round"
      stroke-linejoin="round"
    />
  </svg>
);

/** Navigation: a column beside the view, above it on a narrow screen. */
function Navigation(props: { route: Route; onSearch: () => void; onSignOut: () => void }) {
  const { route, onSearch, onSignOut } = props;
  const proposed = useStore(proposals);
  return (
    <header class="top">
      <a class="brand" href={hashOf({ at: '' })}>
        <Mark />
        graft
      </a>
      <button type="button" class="search" onClick={onSearch} aria-keyshortcuts="Control+K">
        <Icon of={Search} />
        <span>Go to …</span>
        <kbd>Ctrl K</kbd>
      </button>
      <nav aria-label="Views">
        {ROUTES.filter(({ icon }) => icon !== null).map(({ at, label, icon }) => (
          <a
            key={at}
            href={hashOf({ at })}
            aria-current={route.at === at || route.within === at ? 'page' : undefined}
          >
            {icon !== null && <Icon of={icon} />}
            <span>{label}</span>
            {at === 'experiments' && proposed > 0 && (
              <span class="badge" title="Proposed winners">
                {proposed}
              </span>
            )}
          </a>
        ))}
      </nav>
      <button type="button" class="quiet leave" onClick={onSignOut}>
        <Icon of={LogOut} />
        <span>Sign out</span>
      </button>
    </header>
  );
}
