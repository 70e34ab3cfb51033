import { LogOut, Search } from 'lucide';
import { hashOf } from '../model/view.ts';
import { Icon } from '../parts/icon.tsx';
import { type Route, ROUTES } from '../routes.tsx';

/** The same as in icon.svg, in the colour of the page. */
export const Mark = () => (
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
