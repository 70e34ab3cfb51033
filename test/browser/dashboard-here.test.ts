/** The same name here and at the origin: the real page, the real engine in the browser, over a tiny base. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { exportWebBase } from '../../gpu-origin/export-web-base.ts';
import type { WebBaseManifest } from '../../protocol/browser-downloads.ts';
import { NAME, useDashboard } from './dashboard-rig.ts';

const rig = useDashboard();
let manifest: WebBaseManifest;
/** Of the base, as they were asked for since it was emptied. */
const fetched: string[] = [];
/** Whether this edge has a base for browsers. */
let isExported = false;

beforeAll(async () => {
  const { folder } = rig.stack;
  manifest = await exportWebBase({
    ...{ basePath: path.join(folder, 'tiny-base'), folder: path.join(folder, 'base') },
    ...{ cacheDir: path.join(folder, 'cache'), onProgress: () => {}, partBytes: 100_000 },
  });
  // `graft base export --web` writes into the package's own folder, which other tests share.
  await rig.page.route('**/base/*', async (route) => {
    const name = new URL(route.request().url()).pathname.split('/').at(-1)!;
    fetched.push(name);
    // One that no edge has: the package may have a base that somebody exported.
    if (!isExported)
      return route.continue({
        url: route
          .request()
          .url()
          .replace(name, `${'0'.repeat(64)}.bin`),
      });
    await route.fulfill({
      contentType: name === 'base.json' ? 'application/json' : 'application/octet-stream',
      body: await readFile(path.join(folder, 'base', name)),
    });
  });
});

const parts = () => fetched.filter((name) => name.endsWith('.bin'));
const size = () => manifest.parts.reduce((sum, { bytes }) => sum + bytes, 0);
const side = (name: string) => rig.page.getByLabel(name, { exact: true });
const HERE = 'In the browser';
const ORIGIN = 'At the origin';

async function ask(name: string): Promise<void> {
  const { page } = rig;
  const anew = page.getByRole('button', { name: 'New conversation' });
  if (await anew.isEnabled()) await anew.click();
  await page.getByLabel('Adapter or base, for both').fill(name);
  await page.getByLabel('Prompt').fill('hello there');
  await page.getByRole('button', { name: 'Ask both' }).click();
}

it('needs a document of its own, which no other view has', async () => {
  const { page, stack } = rig;
  await page.goto(stack.local.dashboard as string);
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  expect(await page.evaluate('crossOriginIsolated')).toBe(false);
  await rig.goTo('Playground');
  await page.getByRole('link', { name: 'Run it in the browser' }).click();
  await page.getByRole('heading', { name: 'In the browser and at the origin' }).waitFor();
  expect(new URL(page.url()).pathname).toBe('/dashboard/here');
  expect(await page.evaluate('crossOriginIsolated')).toBe(true);
  await page.getByText('This edge has no base for browsers.').waitFor();
  await page.getByText('graft base export --web').waitFor();
  expect(await page.getByRole('button', { name: 'Ask both' }).isDisabled()).toBe(true);
  await rig.look('here-no-base');
  // By its bare address, too.
  await page.goto(`${stack.local.url}/dashboard/here`);
  await page.getByText('This edge has no base for browsers.').waitFor();
  await rig.goTo('Keys');
  expect(new URL(page.url()).pathname).toBe('/dashboard');
  expect(await page.evaluate('crossOriginIsolated')).toBe(false);
});

it('says how large the base is, fetches it once, and answers as the origin does', async () => {
  const { page } = rig;
  isExported = true;
  await page.goBack();
  await page.getByText(`tiny-base, ${Math.round(size() / 1000)} kB.`).waitFor();
  expect(parts()).toEqual([]);
  await rig.look('here-closed');
  await page.getByRole('button', { name: /^Download \d+ kB and start$/ }).click();
  await page.getByText(/^tiny-base on ONNX Runtime in WebAssembly, \d threads?\./).waitFor();
  expect(parts().sort()).toEqual(manifest.parts.map(({ sha256 }) => `${sha256}.bin`).sort());
  // Over random weights the least rounding grows: the embedding is int8 here, and float32 at the origin.
  await page.getByText('System message and parameters').click();
  await page.getByLabel('Max tokens').fill('12');
  await ask(NAME);
  await side(HERE).getByText('done', { exact: true }).waitFor();
  await side(ORIGIN).getByText('done', { exact: true }).waitFor();
  for (const place of [HERE, ORIGIN]) {
    await side(place).getByText(`${NAME}@1`).waitFor();
    await expect
      .poll(() => side(place).locator('.after').innerText())
      .toMatch(/TTFT\s+[\d.]+ m?s\s+[\d.,]+ tokens\/s\s+\d+ tokens/);
  }
  const said = (place: string) => side(place).locator('.answer').textContent();
  expect(await said(HERE)).toBe(await said(ORIGIN));
  await page.getByText('Both answers are the same, letter by letter.').waitFor();
  await page.getByText(/KL divergence (< )?0\.\d+ nats over \d+ tokens/).waitFor();
  await rig.look('here-answers');
});

it('swaps the name, and fetches no base for it', async () => {
  const { page } = rig;
  const before = await side(HERE).locator('.answer').textContent();
  fetched.length = 0;
  await ask(`${NAME}/child`);
  await side(HERE).getByText(`${NAME}/child@1`).waitFor();
  await side(HERE).getByText('done', { exact: true }).waitFor();
  expect(await side(HERE).locator('.answer').textContent()).not.toBe(before);
  await page.getByText('Both answers are the same, letter by letter.').waitFor();
  await ask('tiny-base');
  await side(HERE).getByText('done', { exact: true }).waitFor();
  await page.getByText('Both answers are the same, letter by letter.').waitFor();
  expect(fetched).toEqual([]);
});

it('says what to run where the key may not download, and takes one that may', async () => {
  const { page, stack } = rig;
  await page.evaluate(`sessionStorage.setItem('graft.api-key', '${stack.local.key}')`);
  await page.reload();
  // Stored: nothing of the base is fetched but what it is made of.
  fetched.length = 0;
  await page.getByRole('button', { name: 'Start it' }).click();
  await page.getByText(/^tiny-base on ONNX/).waitFor();
  expect(parts()).toEqual([]);
  await ask(NAME);
  await side(HERE).getByRole('alert').getByText('This key may not let pages download').waitFor();
  await side(ORIGIN).getByText('done', { exact: true }).waitFor();
  const form = page.getByLabel('A key that may download');
  await form.getByText('graft keys create --download').waitFor();
  await rig.look('here-no-download');
  const made = await stack.graft('keys', 'create', '--download', '--json');
  const { key } = JSON.parse(made.stdout) as { key: string };
  await form.getByLabel('API key').fill(key);
  await form.getByRole('button', { name: 'Use it' }).click();
  await form.waitFor({ state: 'detached' });
  await ask(NAME);
  await page.getByText('Both answers are the same, letter by letter.').waitFor();
});

it('says what goes wrong with a name, and asks the origin all the same', async () => {
  const { page } = rig;
  await ask(`${NAME}/nobody`);
  await side(HERE)
    .getByRole('alert')
    .getByText('In the browser, a name needs a live version of its own')
    .waitFor();
  // The origin's answer is inherited.
  await side(ORIGIN).getByText('(inherited)').waitFor();
  await side(ORIGIN).getByText('done', { exact: true }).waitFor();
  await page.route('**/v1/downloads?*', (route) => route.abort());
  await ask(`${NAME}/other`);
  await side(HERE).getByRole('alert').getByText('cannot be reached').waitFor();
  await page.unroute('**/v1/downloads?*');
});

it('removes what is stored, says what is in the way of fetching it again, and goes on', async () => {
  const { page, stack } = rig;
  await page.getByRole('button', { name: 'Remove what is stored here' }).click();
  const fetchIt = page.getByRole('button', { name: /^Download \d+ kB and start$/ });
  await fetchIt.waitFor();
  await page.getByRole('button', { name: 'Remove what is stored here' }).waitFor({ state: 'detached' });
  expect(
    await page.evaluate('navigator.storage.getDirectory().then((folder) => Array.fromAsync(folder.keys()))'),
  ).toEqual([]);

  const session = await page.context().newCDPSession(page);
  const quota = (quotaSize?: number) =>
    session.send('Storage.overrideQuotaForOrigin', {
      origin: stack.local.url,
      ...(quotaSize === undefined ? {} : { quotaSize }),
    });
  await quota(150_000);
  await fetchIt.click();
  await page.getByRole('alert').getByText('Remove what is stored here, or free disk space.').waitFor();
  await rig.look('here-storage-full');
  await quota();

  const second = manifest.parts[1]!.sha256;
  let isHeld = true;
  // One that never comes.
  await page.route(`**/base/${second}.bin`, (route) => (isHeld ? undefined : route.fallback()));
  await fetchIt.click();
  await page.getByText(/^[\d.]+ kB of \d+ kB$/).waitFor();
  await rig.look('here-fetching');
  await page.getByRole('status').getByText('Downloading the base').waitFor();
  await page.getByRole('button', { name: 'Stop' }).first().click();
  await page.getByText(/ are here already\.$/).waitFor();
  isHeld = false;
  fetched.length = 0;
  await fetchIt.click();
  await page.getByText(/^tiny-base on ONNX/).waitFor();
  expect(parts()).toEqual(manifest.parts.slice(1).map(({ sha256 }) => `${sha256}.bin`));
});

it('leaves nothing behind in the tab at sign-out, and the browser had nothing to complain of', async () => {
  const { page } = rig;
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Admin key').waitFor();
  expect(new URL(page.url()).pathname).toBe('/dashboard');
  expect(await page.evaluate('sessionStorage.length')).toBe(0);
  expect(rig.complaints).toEqual([]);
});
