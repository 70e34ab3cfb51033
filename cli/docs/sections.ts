/** What docs/cli.md says beyond the definitions of the commands. */

export const INTRODUCTION =
  '`graft` runs from the sources: `node bin/graft.mjs …`, or `npx graft …` in this folder. `graft <command> --help` prints the flags and examples of a command. `npm run docs` writes this page from the same definitions.';

export const CONNECTION = [
  'A command that talks to a server takes, in this order:',
  '1. the environment: `GRAFT_URL`, `GRAFT_KEY` (inference: `run`) and `GRAFT_ADMIN_KEY` (everything else);',
  '2. `.graft/local.json` of the current folder, which `graft dev` writes there when everything is ready and removes when it ends: `{url, key, adminKey, originUrl, base}`, readable by you alone;',
  '3. `~/.config/graft/credentials.json`, which `graft login` writes: keys by server, and the server of the last login.',
  '',
  'A key goes only where it belongs: with `GRAFT_URL` set, the local file is not read, and from the credentials only the keys of that very address are taken. `GRAFT_KEY` and `GRAFT_ADMIN_KEY` go to `GRAFT_URL`, or to the stack of the current folder, and are refused without either. `.graft/local.json` may name this machine only, since it may have come with a checkout. The credentials file is refused when anybody but its owner may read it (`chmod 600` makes it right again). No command prints a key, except `graft dev`, which prints the one it made for this machine, and `graft keys create` and `rotate`, which print the new one once.',
].join('\n');

export const OUTPUT =
  'Results go to stdout; progress and notes to stderr, progress only when stderr is a terminal. `--json` prints one JSON document on stdout, and a failure as `{"error":{"code","message"}}` on stderr. Where a command finds what it was asked to look for and the answer is no (`graft verify`), both are printed.';
