// `npm run build:cli`: dist/cli anew, with nothing in it of builds before, as a package carries it.
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { compileCli } from './compiled-cli.mjs';

await rm(fileURLToPath(new URL('../dist/cli', import.meta.url)), { recursive: true, force: true });
await compileCli();
