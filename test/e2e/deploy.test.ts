/** `graft deploy` with the real wrangler, against a fake of Cloudflare's API: broken off, gone on with, refused. */
import { existsSync, statSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { hashApiKey } from '../../protocol/identity.ts';
import { startFakeCloudflare, type FakeCloudflare } from '../fakes/fake-cloudflare.ts';
import { runGraft, startGraft, type GraftOptions } from './graft-process.ts';

const ORIGIN = ['--origin', 'origin-1=https://o1.example.com'];
/** Nothing answers at the address that the fake gives. */
const NO_CHECK = '--no-check';

let cloudflare: FakeCloudflare;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-deploy-'));
  cloudflare = await startFakeCloudflare();
});
afterAll(async () => {
  await cloudflare.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});
beforeEach(() => {
  cloudflare.requests.length = 0;
  cloudflare.before = () => undefined;
});

const options = (): GraftOptions => ({
  cwd: folder,
  env: {
    // wrangler keeps logs and settings below it.
    HOME: folder,
    CLOUDFLARE_API_BASE_URL: cloudflare.url,
    CLOUDFLARE_API_TOKEN: cloudflare.token,
    CLOUDFLARE_ACCOUNT_ID: cloudflare.account,
  },
});
const deploy = (...args: string[]) => runGraft(['deploy', ...args], options());
const kept = (file: string): string => path.join(folder, '.graft/deploy', file);
const madeBy = (method: string): string[] => cloudflare.requests.filter((line) => line.startsWith(method));

describe('graft deploy', () => {
  it('prints every step and asks nobody with --dry-run', async () => {
    const { code, stdout } = await deploy(...ORIGIN, '--r2', '--dry-run');
    expect(code).toBe(0);
    for (const command of [
      'npx wrangler kv namespace create graft-adapters',
      'npx wrangler d1 create graft',
      'npx wrangler r2 bucket create graft-blobs',
      'npx wrangler d1 migrations apply graft --env production --remote',
      'npx wrangler d1 execute graft --env production --remote --json --command "SELECT hash FROM schema_hash"',
      'npx wrangler deploy --env production --secrets-file secrets/worker.json',
    ])
      expect(stdout).toContain(command);
    expect(cloudflare.requests).toEqual([]);
    expect(existsSync(kept('.'))).toBe(false);
  });

  it('ends in the middle by Ctrl-C, and the next run goes on: nothing is made twice', async () => {
    let arrived = (): void => undefined;
    const database = new Promise<void>((resolve) => (arrived = resolve));
    cloudflare.before = (line) => {
      if (line === 'POST /d1/database') {
        arrived();
        // It never comes to the answer; the database is made all the same.
        cloudflare.databases.set('graft', '00000000-0000-4000-8000-000000002000');
        return new Promise(() => undefined);
      }
      return undefined;
    };
    const first = startGraft(['deploy', ...ORIGIN, NO_CHECK], options());
    await Promise.race([database, first.finished]);
    first.child.kill('SIGINT');
    expect(await first.finished).toMatchObject({ code: 130 });
    expect(cloudflare.workers.size).toBe(0);
    expect([...cloudflare.namespaces.keys()]).toEqual(['graft-adapters']);

    cloudflare.requests.length = 0;
    cloudflare.before = () => undefined;
    const { code, stdout, stderr } = await deploy(NO_CHECK);
    expect([code, stderr]).toEqual([0, '']);
    expect(madeBy('POST /storage')).toEqual([]);
    expect(madeBy('POST /d1/database').filter((line) => !line.endsWith('/query'))).toEqual([]);
    expect(stdout).toContain('graft-adapters exists');
    expect(stdout).toContain('graft exists');
    expect(stdout).toContain('https://graft-production.acme.workers.dev');
    expect(stdout).toContain('graft origin --origin-id origin-1 --keys origin.env');
    expect(cloudflare.migrations).toEqual(['0001_schema.sql']);

    const worker = cloudflare.workers.get('graft-production');
    expect(worker?.metadata.bindings).toEqual(
      expect.arrayContaining([
        {
          name: 'ADAPTERS',
          type: 'kv_namespace',
          namespace_id: cloudflare.namespaces.get('graft-adapters'),
        },
        expect.objectContaining({ name: 'DB', type: 'd1', id: cloudflare.databases.get('graft') }),
        {
          ...{ name: 'ORIGINS', type: 'plain_text' },
          text: '[{"id":"origin-1","url":"https://o1.example.com"}]',
        },
      ]),
    );
    // The secrets that it got are those that are kept, and nothing of them was printed.
    const adminKey = (await readFile(kept('secrets/admin-key'), 'utf8')).trim();
    expect(worker?.secrets.get('GRAFT_ADMIN_KEY_SHA256')).toBe(await hashApiKey(adminKey));
    const originEnv = await readFile(kept('secrets/origin.env'), 'utf8');
    expect(originEnv.trim()).toBe(`GRAFT_ORIGIN_KEYS=${worker?.secrets.get('GRAFT_ORIGIN_KEYS')}`);
    for (const secret of [adminKey, ...(worker?.secrets.values() ?? [])])
      expect(stdout).not.toContain(secret);
    for (const file of ['secrets/admin-key', 'secrets/origin.env', 'secrets/worker.json', 'deployment.json'])
      expect([file, statSync(kept(file)).mode & 0o077]).toEqual([file, 0]);
  });

  it('deploys again with other variables, applies nothing twice and leaves the secrets alone', async () => {
    const worker = cloudflare.workers.get('graft-production');
    worker?.secrets.set('GRAFT_MAC_KEY', 'rotated since');
    const applied = [...cloudflare.migrations];
    const { code, stdout } = await deploy(
      '--var',
      'CORS_ORIGINS=https://app.example.com',
      NO_CHECK,
      '--json',
    );
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      url: 'https://graft-production.acme.workers.dev',
      steps: expect.arrayContaining([
        expect.objectContaining({ title: 'Secrets', outcome: expect.stringContaining('stay') as string }),
      ]) as unknown,
    });
    expect(cloudflare.migrations).toEqual(applied);
    expect(worker?.secrets.get('GRAFT_MAC_KEY')).toBe('rotated since');
    expect(cloudflare.workers.get('graft-production')?.metadata.bindings).toContainEqual({
      ...{ name: 'CORS_ORIGINS', type: 'plain_text', text: 'https://app.example.com' },
    });
  });

  it('says what the sign-in may not do, and which rights it needs', async () => {
    cloudflare.before = (line) =>
      line === 'GET /d1/database' ? { status: 403, code: 10000, message: 'Authentication error' } : undefined;
    const { code, stderr } = await deploy(...ORIGIN, NO_CHECK, '--json');
    expect(code).toBe(4);
    const { error } = JSON.parse(stderr) as { error: { code: string; message: string } };
    expect(error.code).toBe('cloudflare_denied');
    expect(error.message).toMatch(/`npx wrangler d1 list --json` failed: .*Authentication error/);
    expect(error.message).toContain('CLOUDFLARE_API_TOKEN');
    expect(error.message).toContain('run the same command again');
  });

  it('refuses to make a second database where the account is another one', async () => {
    cloudflare.databases.clear();
    const { code, stderr } = await deploy(NO_CHECK, '--json');
    expect([code, JSON.parse(stderr)]).toEqual([
      1,
      {
        error: {
          code: 'deployment_elsewhere',
          message: expect.stringContaining('not in this account') as string,
        },
      },
    ]);
    expect(madeBy('PUT')).toEqual([]);
  });
});
