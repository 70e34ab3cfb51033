/** The real page against the real local stack with a tiny base: what a person would do, in the order they would. */
import path from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startTinyStack, type TinyStack } from '../e2e/tiny-stack.ts';
import { TINY_ADAPTERS, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { startChromium } from './chromium.ts';

const NAME = 'support/intent';
/** Enough for a verdict: 50 values an arm are the least. */
const USERS = 300;

let stack: TinyStack;
let browser: Browser;
let page: Page;
/** What the browser complains of; a broken policy is among it. */
const complaints: string[] = [];

beforeAll(async () => {
  [stack, browser] = await Promise.all([startTinyStack(), startChromium()]);
  for (const [folder, name, kind] of [
    ['one', NAME, 'attention'],
    ['two', NAME, 'everything'],
    ['child', `${NAME}/child`, 'attention'],
  ] as const) {
    const adapter = TINY_ADAPTERS[kind] as TinyAdapter;
    writeTinyAdapter(path.join(stack.folder, folder), adapter);
    const more = folder === 'two' ? ['--stage'] : folder === 'child' ? ['--parent', NAME] : [];
    const done = await stack.graft('publish', folder, '--name', name, ...more);
    if (done.code !== 0) throw new Error(done.stderr);
  }
  page = await browser.newPage();
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    if (!message.text().includes('401')) complaints.push(message.text());
  });
}, 120_000);
afterAll(async () => {
  await browser?.close();
  await stack?.remove();
});

/** For whoever wants to see it: `GRAFT_SHOTS` is a folder. */
async function shot(name: string): Promise<void> {
  const folder = process.env['GRAFT_SHOTS'];
  if (folder === undefined) return;
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: path.join(folder, `${name}-${colorScheme}.png`), fullPage: true });
  }
  await page.setViewportSize({ width: 360, height: 740 });
  await page.screenshot({ path: path.join(folder, `${name}-360.png`), fullPage: true });
  const wide = await page.evaluate('document.documentElement.scrollWidth');
  await page.setViewportSize({ width: 1280, height: 800 });
  expect(wide).toBeLessThanOrEqual(360);
}
const confirm = async (act: string): Promise<void> => {
  await page.getByRole('dialog').getByRole('button', { name: act, exact: true }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
};

it('is served with a strict policy, and stands before no route', async () => {
  const served = await fetch(`${stack.local.url}/dashboard`);
  expect(served.headers.get('content-security-policy')).toContain("default-src 'none'; script-src 'self'");
  expect(served.headers.get('cache-control')).toBe('no-store');
  const script = /src="([^"]+\.js)"/.exec(await served.text())?.[1];
  const asset = await fetch(stack.local.url + script);
  expect(asset.headers.get('cache-control')).toContain('immutable');
  expect(asset.headers.get('x-content-type-options')).toBe('nosniff');
  expect((await fetch(`${stack.local.url}/admin/names`)).status).toBe(401);
});

it('refuses a wrong key in words, and takes the right one', async () => {
  await page.goto(`${stack.local.url}/dashboard`);
  await page.getByLabel('Admin key').fill('ga_wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').getByText('The API key is malformed').waitFor();
  await shot('sign-in');
  await page.getByLabel('Admin key').fill(stack.local.adminKey);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('heading', { name: 'Adapters' }).waitFor();
});

it('shows the tree, versions and who inherits what', async () => {
  await page.getByRole('link', { name: 'intent @1' }).click();
  await page.getByText('Version 1 is live.').waitFor();
  await page.getByRole('row', { name: /^2 staged/ }).waitFor();
  await page
    .getByText('Inherited by')
    .getByRole('link', { name: `${NAME}/child` })
    .waitFor();
  await shot('adapter');
});

it('streams two adapters side by side', async () => {
  await page.getByRole('link', { name: 'Playground' }).click();
  await page.getByLabel('API key').fill(stack.local.key);
  await page.getByRole('button', { name: 'Use it' }).click();
  await page.getByLabel('Prompt').fill('hello there');
  const [left, right] = [page.getByLabel('Left side'), page.getByLabel('Right side')];
  await left.getByRole('combobox').fill(`${NAME}@1`);
  await right.getByRole('combobox').fill(`${NAME}/child`);
  await page.getByRole('button', { name: 'Ask both' }).click();
  await left.getByText(`${NAME}@1`).waitFor();
  await right.getByText(`${NAME}/child@1`).waitFor();
  for (const side of [left, right]) await side.getByText(/^(done|stopped)$/).waitFor();
  await shot('playground');
});

it('says how busy an origin is', async () => {
  await page.getByRole('link', { name: 'Origins' }).click();
  // The playground has a label 'Tokens/s', and stands there until this view does.
  await page.getByRole('heading', { name: 'Origins' }).waitFor();
  await page.getByText(/\d tokens\/s$/).waitFor();
  await shot('origins');
});

it('makes and starts an experiment, shows its interval, and promotes the winner', async () => {
  await page.getByRole('link', { name: 'Experiments' }).click();
  await page.getByRole('link', { name: 'New experiment' }).click();
  await page.getByRole('button', { name: 'Create a draft' }).click();
  await page.getByText('a name must not be empty').waitFor();
  await page.getByLabel('Name that applications call').fill(NAME);
  await page.getByLabel('Control, version').fill('1');
  await page.getByLabel('Treatment, version').fill('2');
  await shot('new-experiment');
  await page.getByRole('button', { name: 'Create a draft' }).click();
  await page.getByRole('button', { name: 'Start' }).click();
  await confirm('Start');
  await page.getByText('running', { exact: true }).waitFor();

  const headers = { authorization: `Bearer ${stack.local.key}`, 'content-type': 'application/json' };
  const post = (to: string, body: object) =>
    fetch(stack.local.url + to, { method: 'POST', headers, body: JSON.stringify(body) });
  const play = async (user: number) => {
    const answer = await post('/v1/chat/completions', {
      ...{ model: NAME, user: `user-${user}`, max_tokens: 1 },
      messages: [{ role: 'user', content: 'hi' }],
    });
    await answer.text();
    const exposure = answer.headers.get('x-graft-exposure');
    if (exposure === null) return false;
    const good = answer.headers.get('x-graft-variant') === 'treatment' || user % 3 === 0;
    await post('/v1/feedback', { exposure, metric: 'thumbs', value: Number(good) });
    return true;
  };
  // The names in KV are remembered for a while.
  await expect.poll(() => play(USERS), { timeout: 60_000, interval: 1_000 }).toBe(true);
  for (let user = 0; user < USERS; user += 10) {
    await Promise.all(Array.from({ length: 10 }, (_, i) => play(user + i)));
    if (user % 100 === 90) {
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      await page.getByRole('button', { name: 'Look now' }).click();
      await page.getByRole('button', { name: 'Look now' }).waitFor();
    }
  }
  await page.getByText('treatment is proposed as the winner').waitFor();
  await page.getByRole('img', { name: /^Lift of thumbs over time/ }).waitFor();
  await shot('experiment');
  await page.getByRole('button', { name: 'Promote a winner' }).click();
  await shot('promote');
  await confirm('Promote');
  await page.getByText('treatment won and is the version of the name.').waitFor();
  await page.getByRole('link', { name: 'Adapters' }).click();
  await page.getByRole('link', { name: 'intent @2' }).waitFor();
}, 240_000);

it('forgets the keys at sign-out, and the browser had nothing to complain of', async () => {
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Admin key').waitFor();
  expect(await page.evaluate('sessionStorage.length + localStorage.length')).toBe(0);
  expect(page.url()).not.toContain('ga_');
  expect(complaints).toEqual([]);
});
