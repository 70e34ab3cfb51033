/** What is around every view: the menu, going somewhere by its name, and what is said when the edge is away. */
import { expect, it } from 'vitest';
import { NAME, useDashboard } from './dashboard-rig.ts';

const rig = useDashboard();

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

it('makes cards of the rows on a telephone, with the names of their columns', async () => {
  const { page } = rig;
  await page.setViewportSize({ width: 390, height: 844 });
  for (const [view, region] of [
    ['keys', 'Keys'],
    ['requests', 'Requests'],
    ['usage', 'Usage by key'],
  ] as const) {
    await rig.post('/v1/chat/completions', {
      ...{ model: NAME, max_tokens: 1 },
      messages: [{ role: 'user', content: 'hi' }],
    });
    await page.evaluate(`location.hash = '#/${view}'`);
    const table = page.getByRole('region', { name: region, exact: true }).first();
    await expect.poll(() => table.locator('td[data-label]').count()).toBeGreaterThan(2);
    const { width, scroll } = await table.evaluate((one) => ({
      width: one.clientWidth,
      scroll: one.scrollWidth,
    }));
    expect([view, scroll]).toEqual([view, width]);
  }
  await page.setViewportSize({ width: 1280, height: 800 });
});

it('says of a table that is cut that there is more, until that was seen', async () => {
  const { page } = rig;
  // Wide enough for a table, and too narrow for all of it: versions are cards on a telephone.
  await page.setViewportSize({ width: 500, height: 740 });
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
  await note.getByText('Shown is the state of').waitFor();
  await page.getByText('Version 1 is live.').waitFor();
  expect(await colour()).not.toBe(before);
  await rig.look('edge-down');
  await page.unrouteAll();
  await note.getByRole('button', { name: 'Check now' }).click();
  await note.waitFor({ state: 'detached' });
  // The mark on the document goes after the note.
  await expect.poll(colour).toBe(before);
  await page.getByRole('alert').waitFor({ state: 'detached' });
});

it('opens its search only where somebody is signed in', async () => {
  const page = await rig.openPage();
  await page.goto(`${rig.stack.local.url}/dashboard`);
  await page.getByLabel('Admin key').waitFor();
  await page.keyboard.press('Control+k');
  await page.getByLabel('Admin key').fill(rig.stack.local.adminKey);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  await page.getByRole('region', { name: 'Last changes' }).waitFor();
  expect(await page.getByRole('dialog').count()).toBe(0);
  await page.close();
});

it('keeps a question open until it has been done, however often Escape is pressed, and asks again after it', async () => {
  const { page } = rig;
  await rig.open(`#/adapters/${NAME}`);
  const promote = page.getByRole('button', { name: 'Promote version 2' });
  const dialog = page.getByRole('dialog');
  let refuse = () => {};
  // Made before the request, which may come after the question says that it is working.
  const refused = new Promise<void>((done) => (refuse = done));
  await page.route('**/admin/promote', async (route) => {
    await refused;
    await route.fulfill({ status: 503, json: { error: { message: 'Not now.', code: 'edge_busy' } } });
  });
  await promote.click();
  await dialog.getByRole('button', { name: 'Promote', exact: true }).click();
  await dialog.getByText('Working …').waitFor();
  for (let i = 0; i < 3; i += 1) await page.keyboard.press('Escape');
  await dialog.getByText('Working …').waitFor();
  refuse();
  await dialog.getByText('Not now.').waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  await page.unrouteAll();
  await promote.click();
  await dialog.getByRole('heading', { name: `Promote ${NAME}@2?` }).waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
});

it('lets go of a question that the edge does not answer, and says what that means', async () => {
  const { page } = rig;
  await page.clock.install();
  await rig.open(`#/adapters/${NAME}`);
  const dialog = page.getByRole('dialog');
  let answer = () => {};
  await page.route('**/admin/promote', async (route) => {
    await new Promise<void>((done) => (answer = done));
    await route.fulfill({ status: 503, json: { error: { message: 'Not now.', code: 'edge_busy' } } });
  });
  await page.getByRole('button', { name: 'Promote version 2' }).click();
  await dialog.getByRole('button', { name: 'Promote', exact: true }).click();
  await dialog.getByText('Working …').waitFor();
  await page.clock.runFor(29_000);
  expect(await dialog.getByRole('button', { name: 'Cancel' }).isDisabled()).toBe(true);
  await page.clock.runFor(2_000);
  await dialog.getByText('but may have done it').waitFor();
  await rig.look('question-late');
  await dialog.getByRole('button', { name: 'Close' }).click();
  await dialog.waitFor({ state: 'detached' });
  // What comes then closes no other question.
  await page.getByRole('button', { name: 'Strict', exact: true }).click();
  const answered = page.waitForResponse('**/admin/promote');
  answer();
  await answered;
  await page.unrouteAll();
  await page.clock.runFor(1_000);
  await dialog.getByRole('heading', { name: `Make ${NAME} strict?` }).waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
});

it('covers nothing of a narrow view for good by what it says of what was done', async () => {
  const { page } = rig;
  await page.setViewportSize({ width: 360, height: 640 });
  // Nobody gives it leave to write to the clipboard.
  await page.evaluate(`navigator.clipboard.writeText = () => Promise.reject(new Error('no leave'))`);
  await page.getByRole('button', { name: 'Copy the name' }).click();
  await page.getByText('The browser does not let this page copy').waitFor();
  const covered = await page.evaluate(`(() => {
    scrollTo(0, document.documentElement.scrollHeight);
    const all = [...document.querySelectorAll('main :is(button, a, input)')].filter((one) => one.checkVisibility());
    const last = all.at(-1);
    const { left, top, width, height } = last.getBoundingClientRect();
    const hit = document.elementFromPoint(left + width / 2, top + height / 2);
    const end = document.querySelector('main').lastElementChild.getBoundingClientRect().bottom;
    return { hit: last.contains(hit), over: end > document.querySelector('.toast').getBoundingClientRect().top };
  })()`);
  expect(covered).toEqual({ hit: true, over: false });
  if (process.env['GRAFT_SHOTS'] !== undefined)
    await page.screenshot({ path: `${process.env['GRAFT_SHOTS']}/toast-360.png` });
  await page.setViewportSize({ width: 1280, height: 800 });
});

it('looks at once when it is seen again, and not while it is not', async () => {
  const { page } = rig;
  await page.clock.install();
  await page.evaluate(`location.hash = '#/keys'`);
  await page
    .getByRole('row', { name: /this hour|not in 90 days/ })
    .first()
    .waitFor();
  const show = (hidden: boolean) =>
    page.evaluate(`Object.defineProperty(document, 'hidden', { value: ${hidden}, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));`);
  let asked = 0;
  await page.route('**/admin/keys', (route) => {
    asked += 1;
    return route.continue();
  });
  await show(true);
  await page.clock.runFor(3_600_000);
  expect(asked).toBe(0);
  await show(false);
  await expect.poll(() => asked).toBe(1);
  await page.unrouteAll();
});

it('prints the view alone, whole', async () => {
  const { page } = rig;
  await rig.open(`#/adapters/${NAME}`);
  await page.getByRole('row', { name: /^2 .*staged/ }).waitFor();
  await page.setViewportSize({ width: 720, height: 1000 });
  await page.emulateMedia({ media: 'print', colorScheme: 'light' });
  expect(await page.getByRole('navigation').isVisible()).toBe(false);
  const pressed = await page.locator('button').all();
  expect(pressed.length).toBeGreaterThan(5);
  for (const one of pressed) expect(await one.isVisible()).toBe(false);
  const hidden = await page.evaluate(
    `[...document.querySelectorAll('.scroll, .code pre')].filter((one) => one.scrollWidth > one.clientWidth + 2).length`,
  );
  if (process.env['GRAFT_SHOTS'] !== undefined)
    await page.screenshot({ path: `${process.env['GRAFT_SHOTS']}/print.png`, fullPage: true });
  await page.emulateMedia({ media: null });
  await page.setViewportSize({ width: 1280, height: 800 });
  expect(hidden).toBe(0);
});

it('says what has failed, and of nothing that it still loads', async () => {
  const { page } = rig;
  await page.route('**/admin/**', (route) =>
    route.fulfill({ status: 429, json: { error: { message: 'Too many.', code: 'rate_limit_exceeded' } } }),
  );
  await rig.open('#/overview');
  await page.getByRole('alert').getByText('Too many. Wait a moment, then try again.').waitFor();
  await expect.poll(() => page.getByRole('status', { name: /^Loading/ }).count()).toBe(0);
  await page.route('**/v1/models', (route) =>
    route.fulfill({ status: 429, json: { error: { message: 'Too many.', code: 'rate_limit_exceeded' } } }),
  );
  await page.evaluate(`location.hash = '#/playground'`);
  await page.getByRole('heading', { name: 'Playground' }).waitFor();
  await page.getByRole('alert').getByText('Too many. Wait a moment, then try again.').waitFor();
  await page.unrouteAll({ behavior: 'wait' });
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByRole('alert').waitFor({ state: 'detached' });
});

it('says so when a part of the page itself does not come', async () => {
  const page = await rig.openPage();
  await page.route('**/assets/in-browser-*.js', (route) => route.abort());
  await page.goto(`${rig.stack.local.url}/dashboard`);
  await page.evaluate(`sessionStorage.setItem('graft.admin-key', '${rig.stack.local.adminKey}')`);
  await page.goto(`${rig.stack.local.url}/dashboard/here`);
  await page.getByRole('alert').getByText('Reload the page.').waitFor();
  await page.close();
});

it('shows the first view where an address names none', async () => {
  const { page } = rig;
  await page.evaluate("location.hash = '#/nowhere/else'");
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  expect(rig.complaints).toEqual([]);
});
