/** Every view while there is nothing, while there is much of everything, and while the edge does not answer. */
import type { Route } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ChangeList, NameList } from '../../protocol/admin-api/names.ts';
import { NO_RIGHTS, type KeyList, type KeyView } from '../../protocol/admin-api/keys.ts';
import type { JobPage } from '../../protocol/fine-tuning.ts';
import { sampleJob } from '../contracts/sample-training.ts';
import { useDashboard } from './dashboard-rig.ts';
import { sampleRequests, sampleTraffic, sampleUsage, sampleUsageDays } from './sample-traffic.ts';

const VIEWS = [
  ['overview', '#/overview', 'Overview'],
  ['adapters', '#/adapters', 'Adapters'],
  ['training', '#/training', 'Training'],
  ['new-training', '#/new-training', 'Train an adapter'],
  ['playground', '#/playground', 'Playground'],
  ['experiments', '#/experiments', 'Experiments'],
  ['new-experiment', '#/new-experiment', 'New experiment'],
  ['usage', '#/usage', 'Usage'],
  ['requests', '#/requests', 'Requests'],
  ['keys', '#/keys', 'Keys'],
  ['origins', '#/origins', 'Origins'],
] as const;
const MANY = 1_000;
/** As long as names may be in practice, without a place to break but its slashes. */
const nameOf = (i: number): string =>
  i % 50 === 7
    ? `department-of-cardiology/long-term-follow-up/dr-elizabeth-montgomery-${i}`
    : `zone/team-${i % 20}/user-${i}`;

const rig = useDashboard();

/** Goes there and looks when it has come to rest. */
async function look(hash: string, heading: string, name: string): Promise<void> {
  await rig.open(hash);
  await rig.page.getByRole('heading', { name: heading, level: 1 }).waitFor();
  await rig.page.waitForLoadState('networkidle');
  await rig.look(name);
}
const answering = (answers: Record<string, (route: Route) => object>) =>
  Promise.all(
    Object.entries(answers).map(([path, json]) =>
      rig.page.route(`**${path}*`, (route) => route.fulfill({ json: json(route) })),
    ),
  );

describe('with nothing', () => {
  beforeAll(async () => {
    await answering({
      '/admin/names': () => ({ names: [], cursor: null }) satisfies NameList,
      '/admin/keys': () => ({ keys: [], cursor: null }) satisfies KeyList,
      '/admin/history': () => ({ changes: [], before: null }) satisfies ChangeList,
      '/admin/experiments': () => ({ experiments: [], cursor: null }),
      '/admin/origins': () => ({ origins: [] }),
      '/admin/requests': () => ({ requests: [], truncated: false, left_out: 0 }),
    });
  });
  afterAll(() => rig.page.unrouteAll());
  it.each(VIEWS)('shows %s', (name, hash, heading) => look(hash, heading, `nothing-${name}`));
  it('says that there is no origin', () => rig.page.getByText('This edge has no origin.').waitFor());
});

describe('with much of everything', () => {
  const key = (i: number): KeyView => ({
    id: `key_${String(i).padStart(16, '0')}`,
    kind: i % 9 === 0 ? 'admin' : 'api',
    tenant: `tenant-${i % 7}`,
    scopes: i % 3 === 0 ? [`${nameOf(i)}/**`, 'shared/tone'] : [],
    scope_owners: [],
    label: i % 2 === 0 ? `${nameOf(i)} in production` : '',
    created_at: 1_760_000_000_000,
    created_by: 'bootstrap',
    revoked_at: null,
    expires_at: i % 4 === 0 ? 4_000_000_000_000 : null,
    ...NO_RIGHTS,
    limits: i % 9 === 0 ? null : { requests_per_minute: 60, tokens_per_day: 1_000_000, concurrent: 4 },
    download: i % 9 === 0,
    keep_prompts: i % 9 !== 0 && i % 5 === 0 ? 168 : null,
    prompts: i % 18 === 0,
    replaced_by: null,
    replaces: null,
  });
  beforeAll(async () => {
    await answering({
      '/admin/names': () => ({
        names: Array.from({ length: MANY }, (_, i) => ({
          ...{
            name: nameOf(i),
            owner: `tenant-${i % 7}`,
            version: 1,
            latest: 3,
            alias: null,
            strict: i % 40 === 0,
          },
          ...{ description: null, tags: [] },
        })),
        cursor: null,
      }),
      '/admin/keys': () => ({ keys: Array.from({ length: 60 }, (_, i) => key(i)), cursor: null }),
      '/admin/history': () => ({
        changes: Array.from({ length: 8 }, (_, i) => ({
          ...{
            id: 100 - i,
            name: i === 0 ? '**' : nameOf(7 + 50 * (i % 3)),
            owner: 'tenant-1',
            at: 1_760_000_000_000,
          },
          ...{
            actor: key(i).id,
            action: i === 0 ? 'read-prompt' : 'promote',
            from: 1,
            to: i === 0 ? null : 2,
          },
          ...{ target: null, why: null },
        })),
        before: null,
      }),
      '/v1/fine_tuning/jobs': () =>
        ({
          object: 'list',
          data: Array.from({ length: 100 }, (_, i) => {
            const status = i < 4 ? (['queued', 'running', 'paused', 'queued'] as const)[i]! : 'succeeded';
            const now = Math.floor(Date.now() / 1_000);
            const id = `ftjob-${String(i).padStart(24, '0')}`;
            const graft = {
              name: nameOf(i),
              parent: `${nameOf(7)}@${i + 1}`,
              base: 'tiny',
              rank: 8,
              checkpoints: false,
            };
            const ended = { finished_at: now - 3_600, fine_tuned_model: `${nameOf(i)}@2` };
            return sampleJob({
              ...{ id, status, graft, created_at: now - 7_200 },
              ...(status === 'succeeded' ? ended : { estimated_finish: now + 3_600 }),
            });
          }),
          ...{ first_id: null, last_id: null, has_more: true },
        }) satisfies JobPage,
      '/admin/traffic': () => sampleTraffic(Date.now()),
      '/admin/requests': () => ({
        requests: sampleRequests(Date.now())
          .slice(0, 12)
          .map((request, i) => ({ ...request, name: request.name === '' ? '' : nameOf(7 + 50 * (i % 2)) })),
        ...{ truncated: true, left_out: 3 },
      }),
      '/admin/usage': (route) => {
        const report = sampleUsage();
        const by = new URL(route.request().url()).searchParams.get('by') ?? 'name';
        if (by === 'day') return sampleUsageDays();
        const rows = Array.from({ length: MANY }, (_, i) => ({ ...report.rows[i % 5]!, group: nameOf(i) }));
        return { ...report, by, rows };
      },
    });
  });
  afterAll(() => rig.page.unrouteAll());
  it.each(VIEWS)('shows %s', (name, hash, heading) => look(hash, heading, `much-${name}`));
  it('links what is a name, and nothing that stands for all of them', async () => {
    await rig.open('#/overview');
    const changes = rig.page.getByRole('region', { name: 'Last changes' });
    await changes.getByRole('row', { name: /^all of tenant-1 read-prompt/ }).waitFor();
    expect(await changes.getByRole('link').count()).toBe(7);
  });
});

describe('while the edge does not answer', () => {
  it.each(VIEWS)('shows %s', async (name, hash, heading) => {
    const { page } = rig;
    for (const path of ['**/admin/**', '**/v1/**']) await page.route(path, (route) => route.abort());
    await rig.open(hash);
    await page.getByRole('heading', { name: heading, level: 1 }).waitFor();
    // The page has just been loaded: nothing is shown that could be old.
    await page.locator('.offline').getByText('Nothing has been loaded yet.').waitFor();
    await rig.look(`down-${name}`);
    await page.unrouteAll();
  });

  it('has given the browser nothing to complain of', () => expect(rig.complaints).toEqual([]));
});
