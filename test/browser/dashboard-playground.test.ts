/** The playground: conversations with two at once, kept and sent on. */
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { NAME, startDashboard, type DashboardRig } from './dashboard-rig.ts';

let rig: DashboardRig;
beforeAll(async () => {
  rig = await startDashboard();
}, 120_000);
afterEach((context) => rig.tell(context));
afterAll(() => rig?.remove());

const side = (name: 'Left' | 'Right') => rig.page.getByLabel(`${name} side`);
/** Waits until both sides have ended so many answers. */
const done = async (turns: number) => {
  for (const name of ['Left', 'Right'] as const)
    await expect
      .poll(() => side(name).getByText('done', { exact: true }).count(), { timeout: 20_000 })
      .toBe(turns);
};

it('sends the message of the system, the parameters and what was said before', async () => {
  const { page } = rig;
  const sent: Record<string, unknown>[] = [];
  page.on('request', (request) => {
    if (request.url().endsWith('/v1/chat/completions')) sent.push(request.postDataJSON());
  });
  await rig.open(
    `#/playground?left=${encodeURIComponent(NAME)}&right=${encodeURIComponent(`${NAME}/child`)}`,
  );
  await page.getByText('System message and parameters').click();
  await page.getByLabel('System message').fill('Be brief.');
  await page.getByLabel('Temperature').fill('0.7');
  await page.getByLabel('Top p').fill('0.9');
  await page.getByLabel('Max tokens').fill('8');
  await page.getByLabel('Seed').fill('7');
  await page.getByLabel('Stop, one a line').fill('END');
  await page.getByLabel('Prompt').fill('hello there');
  await page.getByRole('button', { name: 'Ask both' }).click();
  await done(1);
  expect(await page.getByLabel('Prompt').inputValue()).toBe('');
  await page.getByLabel('Prompt').fill('and now?');
  await page.getByLabel('Prompt').press('Control+Enter');
  await expect.poll(() => sent.length).toBe(4);
  await done(2);
  const first = await side('Left').locator('.answer').first().textContent();
  expect(sent.find((body) => body['model'] === NAME)).toMatchObject({
    ...{ temperature: 0.7, top_p: 0.9, max_tokens: 8, seed: 7, stop: ['END'], stream: true },
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'hello there' },
    ],
  });
  expect(sent.filter((body) => body['model'] === NAME)[1]).toMatchObject({
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'hello there' },
      ...(first === 'No answer.' ? [] : [{ role: 'assistant', content: first }]),
      { role: 'user', content: 'and now?' },
    ],
  });
  await rig.look('playground-turns');
});

it('is as it was after going elsewhere, after a reload, and for whoever gets the address', async () => {
  const { page, stack } = rig;
  const said = () => page.locator('.answer').allTextContents();
  const before = await said();
  expect(before).toHaveLength(4);
  await rig.goTo('Keys');
  await rig.goTo('Playground');
  expect(await said()).toEqual(before);
  expect(await page.getByLabel('Temperature').inputValue()).toBe('0.7');
  await page.getByLabel('Prompt').fill('half a question');
  await page.reload();
  await page.getByLabel('Prompt').waitFor();
  expect(await said()).toEqual(before);
  expect(await page.getByLabel('Prompt').inputValue()).toBe('half a question');

  const address = page.url();
  for (const secret of [stack.local.key, stack.local.adminKey]) expect(address).not.toContain(secret);
  const other = await rig.openPage();
  await other.goto(address);
  await other.getByLabel('Admin key').fill(stack.local.adminKey);
  await other.getByRole('button', { name: 'Sign in' }).click();
  await other.getByLabel('API key').fill(stack.local.key);
  await other.getByRole('button', { name: 'Use it' }).click();
  await expect.poll(() => other.getByLabel('Prompt').inputValue()).toBe('half a question');
  expect(await other.getByLabel('System message').inputValue()).toBe('Be brief.');
  expect(await other.getByLabel('Seed').inputValue()).toBe('7');
  expect(await other.getByLabel('Left side').getByRole('combobox').inputValue()).toBe(NAME);
  await other.close();
});

it('marks where two answers differ, and copies a side as code', async () => {
  const { page } = rig;
  const answer = (text: string) =>
    [{ choices: [{ delta: { content: text } }] }, '[DONE]']
      .map((data) => `data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`)
      .join('');
  await page.route('**/v1/chat/completions', (route) => {
    const { model } = route.request().postDataJSON() as { model: string };
    const body = answer(model === NAME ? 'The refund is on its way.' : 'The parcel is on its way today.');
    return route.fulfill({ headers: { 'content-type': 'text/event-stream' }, body });
  });
  await page.getByRole('button', { name: 'New conversation' }).click();
  await page.getByText('No answer yet.').first().waitFor();
  await page.getByLabel('Prompt').fill('Where is it?');
  await page.getByRole('button', { name: 'Ask both' }).click();
  await done(1);
  expect(await page.locator('mark').count()).toBe(0);
  await page.getByLabel('Mark differences').check();
  await expect.poll(() => side('Left').locator('mark').allTextContents()).toEqual(['refund ', 'way.']);
  expect(await side('Right').locator('mark').allTextContents()).toEqual(['parcel ', 'way today.']);
  await rig.look('playground-differences');
  await side('Left').getByText('As code').click();
  const code = page.getByRole('region', { name: 'Left side as code' });
  await code.getByText('"content": "Where is it?"').waitFor();
  await rig.look('playground-code');
  await page.unrouteAll();
  expect(rig.complaints).toEqual([]);
});

it('forgets all of it at sign-out', async () => {
  const { page } = rig;
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Admin key').waitFor();
  expect(await page.evaluate('sessionStorage.length + localStorage.length')).toBe(0);
  await rig.open('#/playground');
  await page.getByText('No answer yet.').first().waitFor();
  expect(await page.getByLabel('Prompt').inputValue()).toBe('');
});
