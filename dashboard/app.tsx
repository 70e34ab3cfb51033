import { useEffect, useMemo, useState } from 'preact/hooks';
import { createClient } from './api/client.ts';
import { Navigation } from './frame/navigation.tsx';
import { OfflineNote } from './parts/notes.tsx';
import { Palette } from './frame/palette.tsx';
import { viewOf, type View } from './model/view.ts';
import { Toasts } from './parts/toasts.tsx';
import { routeOf } from './routes.tsx';
import { forgetAll, storedKey, storeKey } from './session.ts';
import { clearPlayground } from './playground-store.ts';
import { SignIn, SignInByLink } from './views/sign-in.tsx';

/** Where all views are that need no other document. */
const CONSOLE = '/dashboard';

export function App() {
  const [key, setKey] = useState(() => storedKey('admin'));
  const address = useView();
  const client = useMemo(() => (key === null ? null : createClient(key)), [key]);
  const [isSearching, setSearching] = useState(false);
  const { route, view } = routeOf(address);
  const page = route.page ?? CONSOLE;
  // Each view is shown in the document whose policy is made for it, and in no other.
  const isElsewhere =
    client !== null && address.at !== 'sign-in' && page !== location.pathname.replace(/\/$/, '');
  useEffect(() => {
    if (isElsewhere) location.replace(page + location.hash);
  }, [isElsewhere, page]);
  useEffect(() => {
    document.title = client === null ? 'graft' : `${view.about ?? route.label} · graft`;
  }, [client, view.about, route.label]);
  useEffect(() => {
    if (client === null) return;
    const onKey = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== 'k' || !(event.ctrlKey || event.metaKey) || event.altKey) return;
      event.preventDefault();
      // A question that is open is answered first.
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
          // Another document may hold what was asked, and a base.
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
