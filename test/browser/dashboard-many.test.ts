/** What somebody has who has very much: names, keys and requests beyond what one answer or one window holds. */
import { expect, it } from 'vitest';
import type { NameList } from '../../protocol/admin-api/names.ts';
import { NAME, useDashboard } from './dashboard-rig.ts';
import { sampleRequests, sampleTraffic, sampleUsage } from './sample-traffic.ts';

const PAGE_OF_NAMES = 1_000;

const rig = useDashboard();

/** So many names that those of this edge, which begin with s, are on no page that is read. */
async function routeNames(): Promise<void> {
  await rig.page.route('**/admin/names*', async (route) => {
    const { searchParams } = new URL(route.request().url());
    const prefix = searchParams.get('prefix') ?? '';
    if (prefix !== '') return route.continue();
    const from = Number(searchParams.get('cursor') ?? 0);
    const list: NameList = {
      names: Array.from({ length: PAGE_OF_NAMES }, (_, i) => ({
        ...{ name: `a/user-${from + i}`, owner: 'default', version: 1, latest: 1, alias: null },
        ...{ strict: false, description: null, tags: [] },
      })),
      cursor: String(from + PAGE_OF_NAMES),
    };
    await route.fulfill({ json: list });
  });
}

it('knows an alias that is in no list', async () => {
  const { page, stack } = rig;
  expect((await stack.graft('alias', 'the-alias', NAME)).code).toBe(0);
  await routeNames();
  await rig.open('#/adapters/the-alias');
  await page.getByText('The first 5,000 names.').waitFor();
  await page.getByRole('region', { name: 'Chosen adapter' }).getByText('An alias: it stands for').waitFor();
  expect(await page.getByRole('button', { name: 'Remove the alias' }).count()).toBe(1);
  expect(await page.getByRole('button', { name: 'Strict' }).count()).toBe(0);
});

it('goes to a name that is in no list, and shows which one is chosen', async () => {
  const { page } = rig;
  await page.setViewportSize({ width: 360, height: 640 });
  await page.keyboard.press('Control+k');
  const palette = page.getByRole('dialog', { name: 'Go to a view or a name' });
  await page.keyboard.type('a');
  await palette.getByRole('option').nth(11).waitFor();
  // The last one, which is below what is in sight.
  await page.keyboard.press('ArrowUp');
  const isSeen = () =>
    page.evaluate(`(() => {
      const [list, option] = ['ul', '[aria-selected="true"]'].map((of) => document.querySelector('.palette ' + of));
      const [outer, inner] = [list, option].map((one) => one.getBoundingClientRect());
      return inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
    })()`);
  await expect.poll(isSeen).toBe(true);
  await page.keyboard.press('ArrowDown');
  await expect.poll(isSeen).toBe(true);
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.keyboard.press('Backspace');
  await page.keyboard.type(NAME);
  await palette.getByRole('option', { name: NAME, exact: true }).click();
  await page.getByRole('heading', { name: NAME, exact: true }).waitFor();
  await page.route('**/admin/names*', (route) => route.fulfill({ status: 503, json: {} }));
  await page.keyboard.press('Control+k');
  await page.keyboard.type('zzz');
  await palette.getByText('The names could not be read').waitFor();
  await page.keyboard.press('Escape');
  await page.unrouteAll();
});

it('offers the versions of a name that is in no list', async () => {
  const { page } = rig;
  await routeNames();
  await page.evaluate(`location.hash = '#/new-experiment/${NAME}'`);
  await page
    .getByRole('group', { name: 'Versions for treatment' })
    .getByRole('button', { name: /^2 staged/ })
    .waitFor();
  await page.unrouteAll();
});

it('says of no key that it was not used where it is not known', async () => {
  const { page } = rig;
  const rows = [{ ...sampleUsage().rows[0]!, group: 'key_other' }];
  let cursor: string | null = 'more';
  await page.route('**/admin/usage?by=key*', (route) =>
    route.fulfill({ json: { ...sampleUsage(), by: 'key', rows, cursor } }),
  );
  await page.evaluate(`location.hash = '#/keys'`);
  const row = page.getByRole('row').filter({ hasText: 'key_' }).filter({ hasText: 'API' }).first();
  await row.waitFor();
  const used = row.locator('td').nth(3);
  await expect.poll(() => used.textContent()).toMatch(/^–made/);
  cursor = null;
  // An edge of before, which does not say when.
  rows[0] = { ...rows[0]!, group: (await row.locator('code').textContent())! };
  await page.reload();
  await expect.poll(() => used.textContent()).toMatch(/^in 90 days/);
  rows.length = 0;
  await page.reload();
  await expect.poll(() => used.textContent()).toMatch(/^not in 90 days/);
  await page.unrouteAll();
});

it('stays fast with thousands of keys, reads them in pages, and says when there are more', async () => {
  const { page } = rig;
  let one: object = {};
  await page.route(/\/admin\/keys(\?|$)/, async (route) => {
    const first = Number(new URL(route.request().url()).searchParams.get('cursor') ?? 0);
    if (first === 0) {
      const { keys } = (await (await route.fetch()).json()) as { keys: { kind: string }[] };
      one = keys.find(({ kind }) => kind === 'api')!;
    }
    const keys = Array.from({ length: 1_000 }, (_, i) => ({
      ...one,
      id: `key_${first + i}`,
      label: `user ${first + i}`,
    }));
    await route.fulfill({ json: { keys, cursor: String(first + 1_000) } });
  });
  await page.reload();
  await page.getByText('5,000 keys').waitFor();
  await page.getByText('These are the newest 5,000.').waitFor();
  await rig.look('keys-many');
  const rows = page.getByRole('region', { name: 'Keys' }).locator('tbody tr');
  expect(await rows.count()).toBe(200);
  await page.getByRole('button', { name: 'Show more' }).click();
  await expect.poll(() => rows.count()).toBe(400);
  await page.getByRole('searchbox', { name: 'Keys with' }).fill('user 2999');
  await page.getByText('1 of 5,000 keys').waitFor();
  await page.getByRole('row', { name: /^user 2999/ }).waitFor();
  expect(await page.getByRole('button', { name: 'Show more' }).count()).toBe(0);
  await page.unrouteAll({ behavior: 'wait' });
});

it('shows all of a key, however long its label is', async () => {
  const { page } = rig;
  await page.route('**/admin/keys', async (route) => {
    const { keys } = (await (await route.fetch()).json()) as { keys: object[] };
    await route.fulfill({
      json: { keys: keys.map((one) => ({ ...one, label: 'L'.repeat(128) })), cursor: null },
    });
  });
  await page.reload();
  const state = page.getByRole('columnheader', { name: 'State' });
  await state.waitFor();
  const { x, width } = (await state.boundingBox())!;
  expect(x + width).toBeLessThan(1280);
  await rig.look('keys-long');
  await page.unrouteAll({ behavior: 'wait' });
});

it('shows a new key where it is seen, however long the table is', async () => {
  const { page } = rig;
  await page.route('**/admin/keys', async (route) => {
    if (route.request().method() !== 'GET') return route.continue();
    const { keys } = (await (await route.fetch()).json()) as { keys: { kind: string }[] };
    const one = keys.find(({ kind }) => kind === 'api')!;
    const many = Array.from({ length: 80 }, (_, i) => ({ ...one, id: `key_${i}`, label: `user ${i}` }));
    await route.fulfill({ json: { keys: [...many, ...keys], cursor: null } });
  });
  await page.reload();
  const last = page.getByRole('button', { name: /^Rotate / }).last();
  await last.scrollIntoViewIfNeeded();
  await last.click();
  await rig.confirm('Rotate');
  const note = page.getByRole('region', { name: 'The new key' });
  await note.waitFor();
  await expect.poll(async () => (await note.boundingBox())!.y).toBeGreaterThanOrEqual(0);
  expect(await page.evaluate(`document.activeElement.getAttribute('aria-label')`)).toBe('The new key');
  await page.unrouteAll({ behavior: 'wait' });
});

it('keeps its place in the requests while more of them come, suggests names, and says the day of older ones', async () => {
  const { page } = rig;
  const requests = Array.from({ length: 4 }, () => sampleRequests(Date.now())).flat();
  const held: (() => void)[] = [];
  await page.route('**/admin/requests*', async (route) => {
    const { searchParams } = new URL(route.request().url());
    const limit = Number(searchParams.get('limit'));
    if (limit > 50 && held.length === 0) await new Promise<void>((go) => held.push(go));
    const list = requests
      .filter(({ name }) => [null, name].includes(searchParams.get('name')))
      .map((one, i) => ({ ...one, id: `req-${i}`, at: one.at - (i === 0 ? 0 : 3 * 86_400_000) }));
    await route.fulfill({
      json: { requests: list.slice(0, limit), truncated: list.length > limit, left_out: 0 },
    });
  });
  await page.evaluate(`location.hash = '#/requests'`);
  const lines = page.getByRole('region', { name: 'Requests' }).locator('tbody tr');
  await lines.nth(49).waitFor();
  expect(await lines.nth(0).locator('td').first().textContent()).toMatch(/^\d\d:\d\d:\d\d$/);
  expect(await lines.nth(1).locator('td').first().textContent()).toMatch(/^\d\d:\d\d:\d\d\d{4}-\d\d-\d\d$/);
  const more = page.getByRole('button', { name: 'Show more' });
  await more.scrollIntoViewIfNeeded();
  const before = await page.evaluate('scrollY');
  await more.click();
  await expect.poll(() => held.length).toBe(1);
  expect([await lines.count(), await page.evaluate('scrollY')]).toEqual([50, before]);
  held[0]!();
  await lines.nth(199).waitFor();
  expect(await page.evaluate('scrollY')).toBe(before);

  await page.getByLabel('Name, exactly').fill('med');
  await page.getByText('No recent request matches.').waitFor();
  const offered = await page
    .locator('#requests-name option')
    .evaluateAll((all) => all.map((one) => one.getAttribute('value')));
  expect(offered).toEqual(['base', 'medicine', 'medicine/cardiology/dr-lee']);
  await page.unrouteAll({ behavior: 'wait' });
});

it('cuts no word of the axis of time', async () => {
  const { page } = rig;
  // A day begins shortly before the end.
  const until = new Date().setHours(0, 20, 0, 0);
  await page.route('**/admin/traffic*', (route) => route.fulfill({ json: sampleTraffic(until) }));
  await page.evaluate(`location.hash = '#/overview'`);
  await page.getByRole('img', { name: /^Requests over time/ }).waitFor();
  // Nobody can ask a canvas what stands in it: what the charts write from now on is noted, and what of it is cut.
  await page.evaluate(`{
    globalThis.written = [];
    const { fillText } = CanvasRenderingContext2D.prototype;
    CanvasRenderingContext2D.prototype.fillText = function (word, x, y) {
      const isCut = x + this.measureText(word).width > this.canvas.width;
      if (this.textAlign === 'left' && word !== '') globalThis.written.push({ word, isCut });
      fillText.call(this, word, x, y);
    };
  }`);
  const written = () => page.evaluate<{ word: string; isCut: boolean }[]>('globalThis.written');
  for (const width of [360, 768, 1280]) {
    await page.evaluate('globalThis.written = []');
    await page.setViewportSize({ width, height: 800 });
    await expect.poll(async () => (await written()).length).toBeGreaterThanOrEqual(8);
    expect((await written()).filter(({ isCut }) => isCut)).toEqual([]);
  }
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.unrouteAll({ behavior: 'wait' });
});

it('has room for figures of millions', async () => {
  const { page } = rig;
  const report = sampleTraffic(Date.now());
  report.total = { ...report.total, requests: 1_234_567_890_123, errors: 987_654_321_012 };
  await page.route('**/admin/traffic*', (route) => route.fulfill({ json: report }));
  await rig.open('#/overview');
  await page.locator('.tiles').waitFor();
  for (const width of [360, 768, 1280]) {
    await page.setViewportSize({ width, height: 800 });
    const wide = await page
      .locator('.tiles dd')
      .evaluateAll((all) =>
        all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent),
      );
    expect([width, wide]).toEqual([width, []]);
  }
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.unrouteAll({ behavior: 'wait' });
});

it('says where older changes of a name are than those that are read', async () => {
  const { page } = rig;
  await page.route('**/admin/history*', async (route) => {
    const list = (await (await route.fetch()).json()) as { changes: object[] };
    await route.fulfill({ json: { ...list, before: 7 } });
  });
  await page.evaluate(`location.hash = '#/adapters/${NAME}'`);
  await page.getByText('Older ones are in graft history.').waitFor();
  await page.unrouteAll({ behavior: 'wait' });
});

it('calls no part of the usage all of it', async () => {
  const { page } = rig;
  await page.route('**/admin/usage*', (route) =>
    route.fulfill({ json: { ...sampleUsage(), cursor: 'more' } }),
  );
  await page.evaluate(`location.hash = '#/usage?by=name'`);
  await page.getByRole('row', { name: /^These rows together / }).waitFor();
  await page.getByText('no sum includes it').waitFor();
  expect(await page.getByText('All together').count()).toBe(0);
  await rig.look('usage-cut');
  await page.unrouteAll();
  expect(rig.complaints).toEqual([]);
});
