import { LogOut, Search } from 'lucide';
import { hashOf } from '../model/view.ts';
import { Icon } from '../parts/icon.tsx';
import { ROUTES, type Route } from '../routes.tsx';
import { Mark } from './mark.tsx';

/** Where one can go from everywhere: a column beside the view, above it on a narrow screen. */
export function Navigation(props: { route: Route; onSearch: () => void; onSignOut: () => void }) {
  const { route, onSearch, onSignOut } = props;
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
