import { expect, it } from 'vitest';
import { originEnvironment } from '../../../cli/local/origin-process.ts';

it('an origin does not get the secrets of the edge, the registry or the account', () => {
  const kept = {
    PATH: '/bin',
    HOME: '/home/a',
    GRAFT_CACHE: '/cache',
    GRAFT_ENGINE_KEY: 'of vLLM',
    HTTPS_PROXY: 'http://proxy',
    NODE_OPTIONS: '',
  };
  const secrets = [
    'GRAFT_KEY',
    'GRAFT_ADMIN_KEY',
    'GRAFT_MAC_KEY',
    'GRAFT_ORIGIN_KEYS',
    'GRAFT_URL',
    'CLOUDFLARE_API_TOKEN',
    'CLOUDFLARE_ACCOUNT_ID',
    'CF_API_TOKEN',
    'cf_api_key',
    'WRANGLER_LOG',
  ];
  const env = { ...kept, ...Object.fromEntries(secrets.map((name) => [name, 'secret'])) };
  expect(originEnvironment(env)).toEqual(kept);
});
