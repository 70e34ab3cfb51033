import { render } from 'preact';
import { config } from 'zod';
import { App } from './app.tsx';
import { hashOf } from './model/view.ts';
import { ROUTES } from './routes.tsx';

// Unless told not to, zod tries once whether it may compile code, which the page's policy forbids and the browser reports.
config({ jitless: true });
// An address without a view is that of the document's own.
const own = ROUTES.find(({ page }) => page === location.pathname);
if (own !== undefined && location.hash === '') history.replaceState(null, '', hashOf(own));
render(<App />, document.getElementById('page')!);
