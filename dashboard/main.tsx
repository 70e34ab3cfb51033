import { render } from 'preact';
import { config } from 'zod';
import { App } from './app.tsx';
import { hashOf } from './model/view.ts';
import { ROUTES } from './routes.tsx';

// Unless disabled, zod tests once whether it may compile code, which the page's policy forbids and the browser
// reports.
config({ jitless: true });
// An address without a view opens the document's own view.
const own = ROUTES.find(({ page }) => page === location.pathname);
if (own !== undefined && location.hash === '') history.replaceState(null, '', hashOf(own));
render(<App />, document.getElementById('page')!);
