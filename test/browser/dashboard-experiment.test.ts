/** An experiment that has everything, made on the page: a judge, a capped metric, results by a header. */
import { expect, it } from 'vitest';
import type { ExperimentList, ExperimentView } from '../../protocol/admin-api/experiments.ts';
import { NAME, useDashboard } from './dashboard-rig.ts';

const USERS = 24;
const rig = useDashboard();

const send = (path: string, body: object, headers: Record<string, string> = {}) =>
  fetch(rig.stack.local.url + path, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${rig.stack.local.key}`,
      'content-type': 'application/json',
      ...headers,
    },
    body: JSON.stringify(body),
  });

async function play(user: number): Promise<boolean> {
  const messages = [{ role: 'user', content: `hi ${user}` }];
  const plan: Record<string, string> = user % 3 === 0 ? {} : { 'x-plan': user % 3 === 1 ? 'pro' : 'free' };
  const answer = await send(
    '/v1/chat/completions',
    { model: NAME, user: `u${user}`, max_tokens: 2, messages },
    plan,
  );
  const { id } = (await answer.json()) as { id: string };
  if (!answer.headers.has('x-graft-variant')) return false;
  const fed = await send('/v1/feedback', { id, metric: 'minutes', value: 1 + (user % 7) });
  expect(fed.status).toBe(200);
  return true;
}

it('makes one with a judge, a cap and segments, and shows all of them', async () => {
  const { page } = rig;
  await rig.signIn();
  await rig.goTo('Experiments');
  await page.getByRole('link', { name: 'New experiment' }).click();
  await page.getByLabel('Name that applications call').fill(NAME);
  await page.getByLabel('Treatment, version').fill('2');
  await page.getByLabel('Metric that decides').fill('minutes');
  await page.getByLabel('Its values').selectOption('mean');
  await page.getByText('More', { exact: true }).click();
  await page.getByLabel('Cap it').check();
  await page.getByLabel('Judge').fill('nobody/there');
  expect(await page.getByLabel('Coverage, percent').inputValue()).toBe('0');
  await page.getByLabel('Coverage, percent').fill('100');
  await page.getByLabel('Results by').fill('plan');
  await page.getByRole('button', { name: 'Create a draft' }).click();
  await page.getByText('This name has no live version.').waitFor();
  await page.getByText('Must be tenant, name, or header:').waitFor();
  await rig.look('further-fields');
  await page.getByLabel('Judge').fill('base');
  await page.getByLabel('Results by').fill('header:x-plan');
  await page.getByRole('button', { name: 'Create a draft' }).click();
  await page.getByRole('button', { name: 'Start' }).click();
  await rig.confirm('Start');
  await page.getByText('running', { exact: true }).waitFor();

  // The names in KV are remembered for a while.
  await expect.poll(() => play(0), { interval: 1_000 }).toBe(true);
  for (let user = 1; user < USERS; user += 1) expect(await play(user)).toBe(true);
  const look = page.getByRole('button', { name: 'Evaluate now' });
  const region = (name: string) => page.getByRole('region', { name, exact: true }).first();
  const looked = async () => {
    await look.click();
    await look.waitFor();
    const pro = region('Segments').getByRole('row').filter({ hasText: 'pro' });
    return (await pro.count()) === 1 && (await region('Spread').getByText('minutes').count()) === 2;
  };
  await expect.poll(looked, { interval: 500 }).toBe(true);
  await region('Segments').getByText('none given').waitFor();
  await region('Segments').getByText('It decides nothing.').waitFor();
  await region('Spread').getByText('ttft_ms').first().waitFor();
  await page.getByText('to be capped at control’s p99').waitFor();
  await region('Judged pairs').getByText('Judged by base').waitFor();
  await rig.look('experiment-further');
});

it('shows a proposed winner by what it gains, in the tab too, until it is promoted', async () => {
  const { page } = rig;
  await page.route(/\/admin\/experiments(\?|\/exp_[^/]*$|$)/, async (route) => {
    const answer = (await (await route.fetch()).json()) as ExperimentList | ExperimentView;
    const proposed = (view: ExperimentView): ExperimentView => ({
      ...view,
      proposal: { variant: 'treatment', at: Date.now(), units: USERS },
      evaluation: {
        ...view.evaluation!,
        decision: { action: 'propose_winner', variant: 'treatment' },
        comparisons: view.evaluation!.comparisons.map((one) => ({
          ...one,
          lift: { estimate: 0.41, low: 0.2, high: 0.6 },
        })),
      },
    });
    await route.fulfill({
      json:
        'experiments' in answer
          ? { ...answer, experiments: answer.experiments.map(proposed) }
          : proposed(answer),
    });
  });
  await page.reload();
  const note = page.getByRole('status').filter({ hasText: 'proposed winner' });
  await note.getByText(`treatment is the proposed winner: +41 % of minutes, ${USERS} users.`).waitFor();
  await expect.poll(() => page.title()).toMatch(/^\(1\) exp_/);
  expect(await page.getByRole('button', { name: /^Promote/ }).count()).toBe(1);
  await rig.look('proposal');
  await rig.goTo('Overview');
  expect(await page.title()).toBe('(1) Overview · graft');
  const running = page.getByRole('region', { name: 'Running experiments' });
  await running.getByText('+41 % of minutes').waitFor();
  await running.getByRole('link', { name: NAME }).click();
  await note.getByRole('button', { name: 'Promote treatment' }).click();
  await rig.confirm('Promote');
  await page.getByText('treatment won, and its version is live.').waitFor();
  await expect.poll(() => page.title()).toMatch(/^exp_/);
  await page.unrouteAll({ behavior: 'wait' });
  expect(rig.complaints).toEqual([]);
});

it('suggests names and versions with their states', async () => {
  const { page } = rig;
  await rig.open(`#/new-experiment/${NAME}`);
  const labels = (list: string) =>
    page.locator(`#${list} option`).evaluateAll((all) => all.map((one) => one.getAttribute('label')));
  await expect.poll(() => labels('names')).toContain(`${NAME}: @2 live`);
  await expect.poll(() => labels('versions')).toEqual(['2: live', '1: earlier']);
  expect(await labels('metrics')).toContain('ttft_ms: time to first token, ms');
});
