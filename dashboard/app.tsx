import { useEffect, useMemo, useState } from 'preact/hooks';
import { createClient } from './api/client.ts';
import { hashOf, viewOf, type View } from './model/view.ts';
import { forgetKeys, storedKey, storeKey } from './session.ts';
import { AdaptersView } from './views/adapters.tsx';
import { ExperimentView } from './views/experiment.tsx';
import { ExperimentsView } from './views/experiments.tsx';
import { NewExperimentView } from './views/new-experiment.tsx';
import { OriginsView } from './views/origins.tsx';
import { OverviewView } from './views/traffic/overview.tsx';
import { RequestsView } from './views/traffic/requests.tsx';
import { UsageView } from './views/traffic/usage.tsx';
import { PlaygroundView } from './views/playground.tsx';
import { SignIn, SignInByLink } from './views/sign-in.tsx';

const ROOMS: { view: View; label: string; also?: View['at'] }[] = [
  { view: { at: 'overview' }, label: 'Overview' },
  { view: { at: 'adapters', name: null }, label: 'Adapters' },
  { view: { at: 'playground' }, label: 'Playground' },
  { view: { at: 'experiments', id: null }, label: 'Experiments', also: 'new-experiment' },
  { view: { at: 'usage' }, label: 'Usage' },
  { view: { at: 'requests' }, label: 'Requests' },
  { view: { at: 'origins' }, label: 'Origins' },
];

export function App() {
  const [key, setKey] = useState(() => storedKey('admin'));
  const view = useView();
  const client = useMemo(() => (key === null ? null : createClient(key)), [key]);
  if (view.at === 'sign-in')
    return (
      <SignInByLink
        token={view.token}
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
  const signOut = () => {
    forgetKeys();
    setKey(null);
  };
  return (
    <>
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
      <header class="top">
        <span class="brand">graft</span>
        <nav aria-label="Views">
          {ROOMS.map(({ view: room, label, also }) => (
            <a
              key={label}
              href={hashOf(room)}
              aria-current={view.at === room.at || view.at === also ? 'page' : undefined}
            >
              {label}
            </a>
          ))}
        </nav>
        <button type="button" class="quiet" onClick={signOut}>
          Sign out
        </button>
      </header>
      <main id="main" tabIndex={-1}>
        {view.at === 'overview' && <OverviewView client={client} />}
        {view.at === 'adapters' && <AdaptersView client={client} name={view.name} />}
        {view.at === 'playground' && <PlaygroundView client={client} />}
        {view.at === 'experiments' &&
          (view.id === null ? (
            <ExperimentsView client={client} />
          ) : (
            <ExperimentView key={view.id} client={client} id={view.id} />
          ))}
        {view.at === 'new-experiment' && <NewExperimentView client={client} name={view.name} />}
        {view.at === 'usage' && <UsageView client={client} />}
        {view.at === 'requests' && <RequestsView client={client} />}
        {view.at === 'origins' && <OriginsView client={client} />}
      </main>
    </>
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
