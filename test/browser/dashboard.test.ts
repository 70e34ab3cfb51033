/** What a person would do with the page, in the order they would: from the key to a promoted winner. */
import { expect, it } from 'vitest';
import { generateApiKey } from '../../protocol/identity.ts';
import { NAME, useDashboard } from './dashboard-rig.ts';

/** Enough for a verdict: 50 values an arm are the least. */
const USERS = 300;

const rig = useDashboard();

it('is served with a strict policy, and stands before no route', async () => {
  const { url } = rig.stack.local;
  const served = await fetch(`${url}/dashboard`);
  expect(served.headers.get('content-security-policy')).toContain("default-src 'none'; script-src 'self'");
  expect(served.headers.get('cache-control')).toBe('no-store');
  const script = /src="([^"]+\.js)"/.exec(await served.text())?.[1];
  const asset = await fetch(url + script);
  expect(asset.headers.get('cache-control')).toContain('immutable');
  expect(asset.headers.get('x-content-type-options')).toBe('nosniff');
  expect((await fetch(`${url}/admin/names`)).status).toBe(401);
});

it('refuses a wrong key in words, and takes the right one', async () => {
  const { page, stack } = rig;
  for (const [key, words] of [
    ['ga_wrong', 'The API key is malformed. Check the key'],
    // Of the right form, but nobody's.
    [generateApiKey('ga'), 'Unknown API key. Check the key'],
    // Of the other kind, whole or not.
    [stack.local.key, 'This is an API key (gk_…)'],
    ['gk_wrong', 'The console needs an admin key, which begins with ga_.'],
    ['ga_“wrong”', 'It contains characters that no key has. Check the key'],
  ] as const) {
    await rig.signIn(key);
    await page.getByRole('alert').getByText(words).waitFor();
    expect(await page.evaluate('sessionStorage.length')).toBe(0);
  }
  await page.getByText('npm start').waitFor();
  await page.getByText('print a link that signs you in once').waitFor();
  await rig.look('sign-in');
  await page.getByLabel('Admin key').fill(stack.local.adminKey);
  await page.context().setOffline(true);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').getByText('The edge does not answer.').waitFor();
  await page.context().setOffline(false);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  await rig.goTo('Adapters');
  await rig.look('adapters');
});

it('shows the tree, versions and who inherits what, also after a reload', async () => {
  const { page } = rig;
  await page.getByRole('link', { name: 'intent @1' }).click();
  await page.getByText('Version 1 is live.').waitFor();
  await page.reload();
  await page.getByRole('row', { name: /^2 .*staged/ }).waitFor();
  await page
    .getByText('Inherited by')
    .getByRole('link', { name: `${NAME}/child` })
    .waitFor();
  await rig.look('adapter');
  // Also where the table is wider than the screen.
  await page.setViewportSize({ width: 360, height: 740 });
  const button = await page.getByRole('button', { name: 'Promote version 2' }).boundingBox();
  expect(button!.x + button!.width).toBeLessThan(360);
  await page.setViewportSize({ width: 1280, height: 800 });
});

it('marks strict names, and says what an alias stands for', async () => {
  const { page, stack } = rig;
  for (const args of [
    ['strict', `${NAME}/child`],
    ['alias', 'intents', NAME],
  ]) {
    const done = await stack.graft(...args);
    expect(done.stderr).toBe('');
    expect(done.code).toBe(0);
  }
  await page.reload();
  await page.getByRole('link', { name: 'child @1, strict' }).click();
  await page.getByText('Strict: missing names below it').waitFor();
  await page.getByRole('link', { name: `intents → ${NAME}` }).click();
  await page.getByText('An alias: it stands for').waitFor();
  expect(await page.getByRole('table', { name: 'Versions' }).count()).toBe(0);
  await rig.look('alias');
  await page.getByText('An alias: it stands for').getByRole('link', { name: NAME }).click();
  await page.getByText('Version 1 is live.').waitFor();
});

it('streams two adapters side by side, and stops both in the middle', async () => {
  const { page, stack } = rig;
  let tell = () => {};
  const told = new Promise<void>((resolve) => (tell = resolve));
  await page.route('**/admin/origins', (route) => told.then(() => route.continue()));
  await rig.goTo('Playground');
  await rig.look('playground-key');
  await page.getByLabel('API key').fill(stack.local.key);
  await page.getByRole('button', { name: 'Use it' }).click();
  await page.getByLabel('Prompt').fill('hello there');
  const [left, right] = [page.getByLabel('Left side'), page.getByLabel('Right side')];
  // Which base there is, and so what either side begins with, is known late: after the left one is being typed into.
  await left.getByRole('combobox').focus();
  const ask = page.getByRole('button', { name: 'Ask both' });
  expect(await ask.isDisabled()).toBe(true);
  tell();
  await expect.poll(() => ask.isEnabled()).toBe(true);
  expect(await left.getByRole('combobox').inputValue()).toBe('');
  await left.getByRole('combobox').fill(`${NAME}@1`);
  await right.getByRole('combobox').fill(`${NAME}/child`);
  const stop = page.getByRole('button', { name: 'Stop' });
  await ask.click();
  await left.getByText(`${NAME}@1`).waitFor();
  await right.getByText(`${NAME}/child@1`).waitFor();
  for (const side of [left, right]) await side.getByText('done', { exact: true }).waitFor();
  expect(await stop.isDisabled()).toBe(true);
  await rig.look('playground');

  // So slow that an answer takes many seconds.
  const network = await page.context().newCDPSession(page);
  const limit = (downloadThroughput: number) =>
    network.send('Network.emulateNetworkConditions', {
      ...{ offline: false, latency: 0, uploadThroughput: -1, downloadThroughput },
    });
  await limit(3_000);
  await page.getByRole('button', { name: 'New conversation' }).click();
  await page.getByLabel('Prompt').fill('hello there');
  await ask.click();
  for (const side of [left, right]) {
    await side.getByText('Waiting …').waitFor({ state: 'detached' });
    await side.getByText('streaming').waitFor();
  }
  await stop.click();
  for (const side of [left, right]) await side.getByText('stopped', { exact: true }).waitFor();
  const said = () => page.locator('.answer').allTextContents();
  const before = await said();
  await limit(-1);
  expect(await ask.isEnabled()).toBe(true);
  expect(await stop.isDisabled()).toBe(true);
  expect(await said()).toEqual(before);
  expect(before.map((text) => text.length > 0)).toEqual([true, true]);
  await network.detach();
});

it('says how busy an origin is', async () => {
  const { page } = rig;
  await rig.goTo('Origins');
  await page.getByText(/\d tokens\/s$/).waitFor();
  await page.getByText('Resident adapters, and their owners').click();
  await page
    .getByRole('region', { name: /^Memory of adapters/ })
    .getByText('default')
    .waitFor();
  await page
    .getByRole('region', { name: /^Resident adapters/ })
    .getByRole('link', { name: NAME })
    .first()
    .waitFor();
  await rig.look('origins');
});

it('makes and starts an experiment, shows its interval, and promotes the winner', async () => {
  const { page } = rig;
  await rig.goTo('Experiments');
  await page.getByRole('link', { name: 'New experiment' }).click();
  await page.getByRole('button', { name: 'Create a draft' }).click();
  await page.getByText('a name must not be empty').waitFor();
  expect(await page.getByText('A version of the name, such as 3.').count()).toBe(2);
  await rig.look('new-experiment');
  await page.getByLabel('Name that applications call').fill(NAME);
  await page.getByLabel('Treatment, version').fill('2');
  await page.getByText('More', { exact: true }).click();
  await page.getByLabel('Users a day that you expect').fill('5000');
  // Control is the live version.
  await page.getByText(/^It can find a 50 % lift: /).waitFor();
  await rig.look('experiment-plan');
  await page.getByRole('button', { name: 'Create a draft' }).click();
  await page.getByRole('button', { name: 'Start' }).click();
  await rig.confirm('Start');
  await page.getByText('running', { exact: true }).waitFor();

  const play = async (user: number) => {
    const answer = await rig.post('/v1/chat/completions', {
      ...{ model: NAME, user: `user-${user}`, max_tokens: 1 },
      messages: [{ role: 'user', content: 'hi' }],
    });
    const { id } = (await answer.json()) as { id: string };
    const variant = answer.headers.get('x-graft-variant');
    if (variant === null) return false;
    const good = variant === 'treatment' || user % 3 === 0;
    await rig.post('/v1/feedback', { id, metric: 'thumbs', value: Number(good) });
    return true;
  };
  // The names in KV are remembered for a while.
  await expect.poll(() => play(USERS), { interval: 1_000 }).toBe(true);
  for (let user = 0; user < USERS; user += 10) {
    await Promise.all(Array.from({ length: 10 }, (_, i) => play(user + i)));
    if (user % 100 === 90) await lookNow();
  }
  // What is counted is written after a second.
  const proposed = page.getByText(/^treatment is the proposed winner: \+\d\d points of thumbs, \d+ users\.$/);
  await expect.poll(() => lookNow().then(() => proposed.isVisible())).toBe(true);
  await page.getByRole('img', { name: /^Lift of thumbs over time/ }).waitFor();
  await page.getByText('Later looks do not change this').waitFor();
  await page.getByText(/could be found so far/).waitFor();
  await rig.look('experiment');
  await page.getByRole('button', { name: 'Promote treatment' }).click();
  await rig.look('promote');
  await rig.confirm('Promote');
  await page.getByText('treatment won, and its version is live.').waitFor();
  await rig.goTo('Adapters');
  await page.getByRole('link', { name: 'intent @2' }).waitFor();
});

async function lookNow(): Promise<void> {
  await rig.page.getByRole('button', { name: 'Evaluate now' }).click();
  await rig.page.getByRole('button', { name: 'Evaluate now' }).waitFor();
}

it('forgets the keys at sign-out, and the browser had nothing to complain of', async () => {
  const { page, complaints } = rig;
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Admin key').waitFor();
  expect(await page.evaluate('sessionStorage.length + localStorage.length')).toBe(0);
  expect(page.url()).not.toContain('ga_');
  expect(complaints).toEqual([]);
});
