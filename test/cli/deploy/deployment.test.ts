/** What `graft deploy` makes of its flags, and of wrangler.toml. */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { unstable_readConfig } from 'wrangler';
import {
  type Deployment,
  type DeployWishes,
  planDeployment,
  productionConfig,
  readDeployment,
  writeDeployment,
} from '../../../cli/deploy/deployment-file.ts';

const TEMPLATE = readFileSync(path.join(import.meta.dirname, '../../../wrangler.toml'), 'utf8');
const ORIGIN = 'origin-1=https://o1.example.com/';
const wishes = (more: Partial<DeployWishes> = {}): DeployWishes => ({
  ...{ name: undefined, account: undefined, r2: undefined, usageDb: undefined },
  ...{ origins: [], variables: [], ...more },
});
const plan = (kept: Deployment | null, more: Partial<DeployWishes>) => planDeployment(kept, wishes(more));

const folder = await mkdtemp(path.join(tmpdir(), 'graft-deployment-'));
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('planDeployment', () => {
  it('keeps stored settings, and overrides them with flags', () => {
    const first = plan(null, { origins: [ORIGIN], variables: ['LOG_SAMPLE=0.1', 'DROPS=on'], r2: true });
    expect(first).toMatchObject({
      name: 'graft',
      r2: true,
      origins: [{ id: 'origin-1', url: 'https://o1.example.com' }],
      variables: { LOG_SAMPLE: '0.1', DROPS: 'on' },
    });
    expect(plan(first, {})).toEqual(first);
    expect(
      plan(first, { origins: ['a=https://a.example.com,llama-3.1'], variables: ['DROPS=', 'LOG_SAMPLE=1'] }),
    ).toEqual({
      ...first,
      origins: [{ id: 'a', url: 'https://a.example.com', base: 'llama-3.1' }],
      variables: { LOG_SAMPLE: '1' },
    });
  });

  it('is read back from its file, and reports corruption', async () => {
    expect(await readDeployment(folder)).toBeNull();
    const deployment = plan(null, { origins: [ORIGIN] });
    await writeDeployment(folder, deployment);
    expect(await readDeployment(folder)).toEqual(deployment);
    await writeFile(path.join(folder, 'deployment.json'), '{"name":1}');
    await expect(readDeployment(folder)).rejects.toMatchObject({ code: 'deployment_damaged' });
  });

  it.each<[string, Partial<DeployWishes>, RegExp]>([
    ['no origin', {}, /--origin origin-1=https/],
    ['an address without TLS', { origins: ['a=http://a.example.com'] }, /must be https/],
    ['an address with a password', { origins: ['a=https://u:p@a.example.com'] }, /remove the name, password/],
    ['no address', { origins: ['a'] }, /use <id>=<url>/],
    ['an address that is no web’s', { origins: ['a=ftp://a.example.com'] }, /use <id>=<url>/],
    [
      'a base that none can be',
      { origins: ['a=https://a.example.com,My Base!'] },
      /the id of an origin's base/,
    ],
    ['a reserved base', { origins: ['a=https://a.example.com,base'] }, /the id of an origin's base/],
    [
      'a default base that nobody serves',
      { origins: ['a=https://a.example.com,llama'], variables: ['DEFAULT_BASE=gemma'] },
      /<one of llama>/,
    ],
    ['one id twice', { origins: [ORIGIN, ORIGIN] }, /same id/],
    ['bases of some', { origins: [ORIGIN, 'b=https://b.example.com,llama'] }, /Either every/],
    ['a secret as a variable', { origins: [ORIGIN], variables: ['GRAFT_MAC_KEY=x'] }, /cannot be set here/],
    ['a variable without a value', { origins: [ORIGIN], variables: ['DROPS'] }, /NAME=value/],
    ['a name that no worker can have', { origins: [ORIGIN], name: 'My Edge' }, /lower-case letters/],
  ])('refuses %s', (_, more, message) => {
    expect(() => plan(null, more)).toThrow(message);
  });

  it('does not let an origin lose the default base', () => {
    const [small, large] = ['a=https://a.example.com,small', 'b=https://b.example.com,large'];
    const kept = plan(null, { origins: [small, large], variables: ['DEFAULT_BASE=large'] });
    expect(() => plan(kept, { origins: [small] })).toThrow(/DEFAULT_BASE is large/);
    expect(plan(kept, { origins: [small], variables: ['DEFAULT_BASE='] }).variables).toEqual({});
    expect(plan(kept, {})).toEqual(kept);
  });

  it('refuses another name, and leaving R2, for an existing deployment', () => {
    const kept = plan(null, { origins: [ORIGIN], r2: true });
    expect(() => plan(kept, { name: 'staging' })).toThrow(/--folder/);
    expect(() => plan(kept, { r2: false })).toThrow(/would lose the adapters/);
  });

  it('refuses to leave usage behind in another database', () => {
    for (const usageDb of [true, false]) {
      const kept = plan(null, { origins: [ORIGIN], usageDb });
      expect(plan(kept, { usageDb: !usageDb }).usageDb).toBe(!usageDb);
      const deployed = { ...kept, database: '11111111-2222-4333-8444-555555555555' };
      expect(plan(deployed, {})).toEqual(deployed);
      expect(() => plan(deployed, { usageDb: !usageDb })).toThrow(/for the first deployment/);
    }
  });
});

describe('productionConfig', () => {
  const config = async (deployment: Deployment) => {
    const file = path.join(folder, 'wrangler.toml');
    const paths = { main: '/tree/worker/index.ts', page: '/tree/dist/page', migrations: '/tree/migrations' };
    await writeFile(file, productionConfig({ template: TEMPLATE, deployment, paths }));
    return unstable_readConfig({ config: file, env: 'production' });
  };
  const deployment: Deployment = {
    ...plan(null, { name: 'staging', origins: [ORIGIN], r2: true }),
    namespace: 'a'.repeat(32),
    database: '11111111-2222-4333-8444-555555555555',
    variables: { LOG_SAMPLE: '0.5', PRICES: '{"currency":"USD","prompt":1,"completion":2}' },
  };

  it('is readable by wrangler', async () => {
    const read = await config(deployment);
    expect(read.name).toBe('staging-production');
    expect(read.main).toBe('/tree/worker/index.ts');
    expect(read.build.command).toBeUndefined();
    expect(read.assets).toMatchObject({ directory: '/tree/dist/page', binding: 'ASSETS' });
    expect(read.kv_namespaces).toEqual([{ binding: 'ADAPTERS', id: deployment.namespace }]);
    expect(read.d1_databases).toEqual([
      {
        ...{ binding: 'DB', database_name: 'staging', database_id: deployment.database },
        migrations_dir: '/tree/migrations',
      },
    ]);
    expect(read.r2_buckets).toEqual([{ binding: 'BLOBS', bucket_name: 'staging-blobs' }]);
    const two = await config({ ...deployment, usageDb: true, usageDatabase: deployment.database });
    expect(two.d1_databases).toEqual([
      ...read.d1_databases,
      {
        ...{ binding: 'DB_USAGE', database_name: 'staging-usage', database_id: deployment.database },
        migrations_dir: '/tree/migrations',
      },
    ]);
    expect(read.vars).toEqual({
      ORIGINS: '[{"id":"origin-1","url":"https://o1.example.com"}]',
      ANALYTICS_SAMPLE: '0.01',
      TRACE_SAMPLE: '0',
      KV_CACHE: 'on',
      ...deployment.variables,
    });
  });

  it('logs a hundredth of the requests unless told otherwise', async () => {
    const { vars } = await config({ ...deployment, variables: { ANALYTICS_SAMPLE: '1' } });
    expect(vars).toMatchObject({ LOG_SAMPLE: '0.01', ANALYTICS_SAMPLE: '1' });
  });

  it('keeps everything else of production in wrangler.toml', async () => {
    const read = await config({ ...deployment, r2: false });
    const own = unstable_readConfig({
      config: path.join(import.meta.dirname, '../../../wrangler.toml'),
      env: 'production',
    });
    for (const same of [
      'compatibility_date',
      'compatibility_flags',
      'durable_objects',
      'migrations',
      'analytics_engine_datasets',
      'triggers',
      'observability',
      'r2_buckets',
    ] as const)
      expect([same, read[same]]).toEqual([same, own[same]]);
  });
});
