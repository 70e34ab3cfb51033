/** Environment variables that commands read, for docs/cli.md. */
export const ENVIRONMENT: readonly { name: string; meaning: string; otherwise: string }[] = [
  {
    name: 'GRAFT_URL',
    meaning: 'address of the edge',
    otherwise: 'from `.graft/local.json`, or the last login',
  },
  { name: 'GRAFT_KEY', meaning: 'API key, `gk_…`, with `GRAFT_URL`', otherwise: 'the same' },
  { name: 'GRAFT_ADMIN_KEY', meaning: 'admin key, `ga_…`, with `GRAFT_URL`', otherwise: 'the same' },
  { name: 'GRAFT_CACHE', meaning: 'base models and prepared graphs', otherwise: '`~/.cache/graft`' },
  {
    name: 'XDG_CONFIG_HOME',
    meaning: 'folder that holds `graft/credentials.json`',
    otherwise: '`~/.config`',
  },
  { name: 'NO_COLOR', meaning: 'plain text; so do pipes', otherwise: '' },
];
