/** An experiment that nobody rates: the page says so. */
import { expect, it } from 'vitest';
import { NAME, useDashboard } from './dashboard-rig.ts';

const rig = useDashboard();

it('says what is lacking, each with what to do', async () => {
  const { page } = rig;
  await rig.signIn();
  await rig.goTo('Experiments');
  await page.getByRole('link', { name: 'New experiment' }).click();
  await page.getByLabel('Name that applications call').fill(NAME);
  await page.getByLabel('Treatment, version').fill('2');
  await page.getByLabel('Metric that decides').fill('thumbs');
  await page.getByLabel('Coverage, percent').fill('100');
  await page.getByRole('button', { name: 'Create a draft' }).click();
  await page.getByRole('button', { name: 'Start' }).click();
  await rig.confirm('Start');
  await page.getByText('running', { exact: true }).waitFor();
  const ask = async (): Promise<boolean> => {
    const answer = await fetch(`${rig.stack.local.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${rig.stack.local.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: NAME, max_tokens: 2, messages: [{ role: 'user', content: 'hi' }] }),
    });
    await answer.text();
    return answer.headers.has('x-graft-variant');
  };
  await expect.poll(ask, { interval: 1_000 }).toBe(true);
  for (let i = 0; i < 120; i += 1) await ask();
  const look = page.getByRole('button', { name: 'Evaluate now' });
  const health = page.getByRole('region', { name: 'Health', exact: true });
  const looked = async () => {
    await look.click();
    await look.waitFor();
    return health.count();
  };
  await expect.poll(looked, { interval: 500 }).toBeGreaterThan(0);
  await health.getByText('answers without feedback').waitFor();
  await health.getByText('all from one unit').waitFor();
  await rig.look('health');
});
