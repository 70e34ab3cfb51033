import { describe, expect, it } from 'vitest';
import { makeSecrets } from '../../../cli/commands/secrets.ts';
import { readConfig } from '../../../gpu-origin/config.ts';
import { checkApiKey, hashApiKey } from '../../../protocol/identity.ts';
import { parseEnv } from '../../../worker/env.ts';

const ORIGINS = '[{"id":"origin-1","url":"https://origin.example.com"}]';

describe('makeSecrets', () => {
  it('creates what edge and origin need, different each time', async () => {
    const [one, two] = await Promise.all([makeSecrets(new Date(0)), makeSecrets(new Date(0))]);
    const config = parseEnv({ ORIGINS, ...one.worker });
    expect(config.originKeys.map(({ kid }) => kid)).toEqual(['k19700101']);
    expect(config.adminKeyHash).toBe(await hashApiKey(one.adminKey));
    expect(checkApiKey(one.adminKey)).toBe('ga');
    const [name = '', value = ''] = one.originEnv.trim().split(/=(.*)/);
    const origin = readConfig(['--base', 'b', '--origin-id', 'origin-1'], { [name]: value });
    expect(origin?.mode).toMatchObject({ kind: 'signed', keys: config.originKeys });
    expect(two.worker.GRAFT_MAC_KEY).not.toBe(one.worker.GRAFT_MAC_KEY);
    expect(two.originEnv).not.toBe(one.originEnv);
    expect(two.adminKey).not.toBe(one.adminKey);
  });
});
