/** How it goes, who uses what, and the last requests: from a completion to the page. */
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { NAME, startDashboard, type DashboardRig } from './dashboard-rig.ts';
import { sampleTraffic } from './sample-traffic.ts';

let rig: DashboardRig;
beforeAll(async () => {
  rig = await startDashboard();
}, 120_000);
afterEach((context) => rig.tell(context));
afterAll(() => rig?.remove());

const ask = async (model: string, more: object = {}) => {
  const body = { model, max_tokens: 4, messages: [{ role: 'user', content: 'hi' }], ...more };
  const answer = await rig.post('/v1/chat/completions', body);
  await answer.text();
  return answer;
};

it('says what to do while there is no request, and draws those that come', async () => {
  const { page } = rig;
  await rig.signIn();
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  await page.getByText('No request in this time.').waitFor();
  await page.getByText('Nothing was used in this time.').waitFor();
  await page.getByRole('region', { name: 'Last changes' }).getByText(`${NAME}/child`).waitFor();
  await rig.look('overview-empty');

  for (let i = 0; i < 3; i += 1) expect((await ask(NAME, { stream: true })).status).toBe(200);
  expect((await ask('no/such/name')).status).toBe(404);
  // It is sent after 5 s, written some seconds later, and asked for each 15 s.
  await page
    .getByRole('img', { name: /^Requests over time; answered: at most/ })
    .waitFor({ timeout: 60_000 });
  const tile = (name: string) => page.locator('.tiles > div', { hasText: name });
  expect(await tile('Requests').locator('dd').first().textContent()).toBe('4');
  expect(await tile('Errors').textContent()).toContain('25 %');
  expect(await tile('TTFT p50').textContent()).toMatch(/\d ms/);
  await page.getByRole('row', { name: /404 model_not_found no such name.* 1$/ }).waitFor();
  await page.getByRole('row', { name: new RegExp(`^${NAME} 3 0 `) }).waitFor();
  await rig.look('overview-few');
}, 120_000);

it('shows a day, and what the pointer is on', async () => {
  const { page } = rig;
  await page.route('**/admin/traffic*', (route) => route.fulfill({ json: sampleTraffic(Date.now()) }));
  await page.getByRole('button', { name: '30 days' }).click();
  await page.getByRole('button', { name: '24 hours' }).click();
  const chart = page.getByRole('img', { name: /^Requests over time/ });
  await chart.hover({ position: { x: 200, y: 60 } });
  await page.locator('figure', { has: chart }).locator('time').waitFor();
  await rig.look('overview');
});

it('says that it is old when the edge is down, and since when', async () => {
  const { page } = rig;
  await page.context().setOffline(true);
  await page.getByText(/Old: this is what the edge said at \d\d:\d\d:\d\d/).waitFor({ timeout: 40_000 });
  await page.getByRole('img', { name: /^Requests over time/ }).waitFor();
  await rig.look('overview-old');
  await page.context().setOffline(false);
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByText('Old: this is what').waitFor({ state: 'detached' });
  await page.unrouteAll();
}, 60_000);

it('has given the browser nothing to complain of', () => {
  expect(rig.complaints).toEqual([]);
});
