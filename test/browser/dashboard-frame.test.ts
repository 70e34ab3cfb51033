/** What is around every view: the menu, going somewhere by its name, and what is said when the edge is away. */
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { NAME, startDashboard, type DashboardRig } from './dashboard-rig.ts';

let rig: DashboardRig;
beforeAll(async () => {
  rig = await startDashboard();
}, 120_000);
afterEach((context) => rig.tell(context));
afterAll(() => rig?.remove());

it('goes to a view and to a name by some letters of it, by keyboard alone', async () => {
  const { page } = rig;
  await rig.open('#/keys');
  await page.getByRole('heading', { name: 'Keys' }).waitFor();
  expect(await page.title()).toBe('Keys · graft');
  const palette = page.getByRole('dialog', { name: 'Go to a view or a name' });
  await page.keyboard.press('Control+k');
  await page.keyboard.type('chil');
  await palette.getByRole('option', { name: `${NAME}/child` }).waitFor();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: `${NAME}/child` }).waitFor();
  await page.keyboard.press('Control+k');
  await page.keyboard.type('p');
  await palette.getByRole('option', { name: 'Playground' }).waitFor();
  await palette.getByText(NAME, { exact: true }).waitFor();
  await rig.look('palette');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('Escape');
  await palette.waitFor({ state: 'detached' });
  await page.keyboard.press('Control+k');
  await page.keyboard.type('experim');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Experiments' }).waitFor();
});

it('says of a table that is cut that there is more, until that was seen', async () => {
  const { page } = rig;
  await page.setViewportSize({ width: 360, height: 740 });
  await page.evaluate(`location.hash = '#/adapters/${NAME}'`);
  await page.getByText('More to the right').waitFor();
  await page.evaluate("document.querySelector('.scroll').scrollTo(10_000, 0)");
  await page.getByText('More to the right').waitFor({ state: 'detached' });
  await page.setViewportSize({ width: 1280, height: 800 });
  expect(await page.getByText('More to the right').count()).toBe(0);
});

it('says when the edge is away, takes back what colours say, and goes on by itself', async () => {
  const { page } = rig;
  const colour = () => page.evaluate("getComputedStyle(document.querySelector('td .state.live')).color");
  const before = await colour();
  await page.route('**/admin/**', (route) => route.abort());
  await page.getByRole('button', { name: 'Promote version 2' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Promote', exact: true }).click();
  await page.getByRole('dialog').getByText('The edge does not answer.').waitFor();
  await page.keyboard.press('Escape');
  const note = page.locator('.offline');
  await note.getByText('What is shown is of').waitFor();
  await page.getByText('Version 1 is live.').waitFor();
  expect(await colour()).not.toBe(before);
  await rig.look('edge-down');
  await page.unrouteAll();
  await note.getByRole('button', { name: 'Look now' }).click();
  await note.waitFor({ state: 'detached' });
  // The mark on the document goes after the note.
  await expect.poll(colour).toBe(before);
  await page.getByRole('alert').waitFor({ state: 'detached' });
});

it('shows the first view where an address names none', async () => {
  const { page } = rig;
  await page.evaluate("location.hash = '#/nowhere/else'");
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  expect(rig.complaints).toEqual([]);
});
