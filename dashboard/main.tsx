import { render } from 'preact';
import { config } from 'zod';
import { App } from './app.tsx';

// Unless told not to, zod tries once whether it may compile code, which the page's policy forbids and the browser reports.
config({ jitless: true });
render(<App />, document.getElementById('page')!);
