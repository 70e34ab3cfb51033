/** The steps over a wrangler that answers as told; test/e2e/deploy.test.ts has the real one. */
import { neededSchema } from '../../../cli/local/schema.ts';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { planDeployment, readDeployment, type Deployment } from '../../../cli/deploy/deployment-file.ts';
import { deploySteps, plannedSteps } from '../../../cli/commands/deploy.ts';
import type { WranglerResult } from '../../../cli/deploy/run-wrangler.ts';

const template = readFileSync(path.join(import.meta.dirname, '../../../wrangler.toml'), 'utf8');
const NAMESPACE = 'a'.repeat(32);
const DATABASE = '11111111-2222-4333-8444-555555555555';
const URL = 'https://graft-production.acme.workers.dev';
const plan = (r2 = false, usageDb = false): Deployment =>
  planDeployment(null, {
    ...{ name: undefined, account: undefined, r2, usageDb, variables: [] },
    origins: ['origin-1=https://o1.example.com'],
  });

type Reply = WranglerResult | string;
/** By the beginning of a command; the longest fits. */
const REPLIES: Record<string, Reply> = {
  whoami: JSON.stringify({ loggedIn: true, accounts: [{ id: 'acc', name: 'Acme' }] }),
  'kv namespace list': '[]',
  'kv namespace create': `[[kv_namespaces]]\nbinding = "graft_adapters"\nid = "${NAMESPACE}"\n`,
  'd1 list': '[]',
  'd1 create': `[[d1_databases]]\ndatabase_name = "graft"\ndatabase_id = "${DATABASE}"\n`,
  'd1 migrations apply': '',
  'd1 execute': JSON.stringify([{ results: [{ hash: await neededSchema() }], success: true }]),
  'r2 bucket create': 'Created bucket',
  'secret list': { ok: false, message: 'Worker "graft-production" (env: production) not found.', code: null },
  deploy: { ok: true, stdout: '', events: [{ type: 'deploy', targets: [URL, 'schedule: * * * * *'] }] },
};

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-steps-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function run(deployment: Deployment, replies: Record<string, Reply> = {}) {
  const all = { ...REPLIES, ...replies };
  const commands: string[] = [];
  const outcomes: Record<string, string> = {};
  const deployed = await deploySteps(
    {
      ...{ folder, template },
      paths: { main: '/tree/index.ts', page: '/tree/page', migrations: '/tree/migrations' },
      wrangler: (args) => {
        const line = args.join(' ');
        commands.push(line);
        const reply = all[Object.keys(all).find((begin) => line.startsWith(begin)) ?? ''];
        if (reply === undefined) throw new Error(`nobody answers ${line}`);
        return Promise.resolve(typeof reply === 'string' ? { ok: true, stdout: reply, events: [] } : reply);
      },
      onStep: ({ title, outcome }) => {
        outcomes[title] = outcome;
      },
    },
    deployment,
  );
  return { deployed, commands, outcomes };
}

describe('deploySteps', () => {
  it.each([false, true])('runs the steps of --dry-run, in that order (usage apart: %s)', async (usageDb) => {
    const { commands, deployed } = await run(plan(true, usageDb));
    const said = plannedSteps(plan(true, usageDb)).flatMap((step) => step.commands);
    expect(commands.map((line) => `npx wrangler ${line.replace('whoami --json', 'whoami')}`)).toEqual(
      said.map((line) => line.replaceAll('"', '')),
    );
    expect(deployed).toMatchObject({ namespace: NAMESPACE, database: DATABASE, url: URL });
    expect(await readDeployment(folder)).toEqual(deployed);
  });

  it('creates nothing that exists, not even a bucket that it cannot list', async () => {
    const { commands, outcomes } = await run(plan(true), {
      'kv namespace list': JSON.stringify([{ id: NAMESPACE, title: 'graft-adapters' }]),
      'd1 list': `A line about a proxy\n${JSON.stringify([{ uuid: DATABASE, name: 'graft' }])}`,
      'r2 bucket create': {
        ok: false,
        message: 'The bucket you tried to create already exists',
        code: 10004,
      },
      'secret list': JSON.stringify([{ name: 'GRAFT_MAC_KEY' }, { name: 'GRAFT_ORIGIN_KEYS' }]),
    });
    expect(commands.filter((line) => /(namespace|d1) create/.test(line))).toEqual([]);
    expect(outcomes['R2 bucket']).toBe('graft-blobs exists');
    expect(commands.at(-1)).toBe('deploy --env production');
    expect(await readdir(folder)).not.toContain('secrets');
  });

  it('keeps the secrets of a run that ended before they were deployed', async () => {
    const failing = { deploy: { ok: false, message: 'no subdomain', code: 10063 } as const };
    await expect(run(plan(), failing)).rejects.toMatchObject({ code: 'wrangler_failed' });
    const before = await readFile(path.join(folder, 'secrets/worker.json'), 'utf8');
    const again = {
      'kv namespace list': JSON.stringify([{ id: NAMESPACE, title: 'graft-adapters' }]),
      'd1 list': JSON.stringify([{ uuid: DATABASE, name: 'graft' }]),
    };
    const { commands } = await run((await readDeployment(folder)) as Deployment, again);
    expect(commands.at(-1)).toBe('deploy --env production --secrets-file secrets/worker.json');
    expect(await readFile(path.join(folder, 'secrets/worker.json'), 'utf8')).toBe(before);
  });

  it('does not deploy to a database of another version of graft', async () => {
    const results = [{ hash: 'feedc0de' }];
    await expect(run(plan(), { 'd1 execute': JSON.stringify([{ results }]) })).rejects.toMatchObject({
      code: 'other_schema',
      message: expect.stringContaining('The D1 database graft was created by another version') as string,
    });
  });

  it('asks which account to use', async () => {
    const accounts = [
      { id: 'one', name: 'One' },
      { id: 'two', name: 'Two' },
    ];
    const replies = { whoami: JSON.stringify({ loggedIn: true, accounts }) };
    await expect(run(plan(), replies)).rejects.toMatchObject({
      code: 'account_needed',
      message: expect.stringContaining('one (One), two (Two)') as string,
    });
    expect((await run({ ...plan(), account: 'two' }, replies)).outcomes['Sign-in']).toBe('account two (Two)');
  });

  it.each([
    ['the sign-in is none', 'whoami', null, 'You are not authenticated. Please run `wrangler login`.'],
    ['it may not read secrets', 'secret list', 10000, 'Authentication error'],
    ['it may not make buckets', 'r2 bucket create', 9109, 'Unauthorized'],
  ])('names the missing rights if %s', async (_, command, code, message) => {
    await expect(run(plan(true), { [command]: { ok: false, message, code } })).rejects.toMatchObject({
      code: 'cloudflare_denied',
      exitCode: 4,
      message: expect.stringMatching(
        new RegExp(`npx wrangler ${command}.* failed: .*npx wrangler login`),
      ) as string,
    });
  });
});
