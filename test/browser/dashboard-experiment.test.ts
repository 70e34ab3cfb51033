/** An experiment that has everything, made on the page: a judge, a capped metric, results by a header. */
import { expect, it } from 'vitest';
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
  expect(rig.complaints).toEqual([]);
});
