/** The link that `graft dev` prints. */
import { expect, it } from 'vitest';
import { useDashboard } from './dashboard-rig.ts';

const rig = useDashboard();

const tokenOf = (link: string) => link.split('/').at(-1) as string;

it('tries the link again that the edge did not answer', async () => {
  const page = await rig.openPage();
  await page.route('**/dashboard/sign-in', (route) => route.abort());
  await page.goto(rig.stack.local.dashboard as string);
  const alert = page.getByRole('alert');
  await alert.getByText('The edge does not answer.').waitFor();
  // It is still good; another one uses it below.
  let tried = 0;
  await page.unrouteAll();
  await page.route('**/dashboard/sign-in', (route) => {
    tried += 1;
    return route.abort();
  });
  await page.getByRole('button', { name: 'Try again' }).click();
  await expect.poll(() => tried).toBe(1);
  await alert.getByText('The edge does not answer.').waitFor();
  await page.close();
});

it('signs in once, with a key for the playground, and leaves no token in the address', async () => {
  const { page, stack } = rig;
  const link = stack.local.dashboard as string;
  const asked: string[] = [];
  page.on('request', (request) => asked.push(request.url()));
  await page.goto(link);
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  expect(page.url()).not.toContain(tokenOf(link));
  for (const url of asked) expect(url).not.toContain(tokenOf(link));
  expect(await page.evaluate("sessionStorage.getItem('graft.admin-key')")).toBe(stack.local.adminKey);

  await rig.goTo('Playground');
  await page.getByLabel('Prompt').fill('hello');
  await page.getByRole('button', { name: 'Ask both' }).click();
  await page.getByText('done').first().waitFor();
  // Of the key that was lent, not of the stack's own.
  const lent = (await stack.graft('keys', '--json')).stdout;
  expect(JSON.parse(lent)).toContainEqual(expect.objectContaining({ label: 'dashboard', kind: 'api' }));
});

it('says so when it was used, and that a key is another way', async () => {
  const page = await rig.openPage();
  await page.goto(rig.stack.local.dashboard as string);
  const alert = page.getByRole('alert');
  await alert.getByText('This link was used').waitFor();
  expect(await alert.textContent()).not.toContain('Check the key');
  expect(await page.evaluate('sessionStorage.length')).toBe(0);
  await page.getByRole('button', { name: 'Sign in with a key' }).click();
  await page.getByLabel('Admin key').waitFor();
  expect(rig.complaints).toEqual([]);
});

it('is where a browser comes that asks for the address alone', async () => {
  const page = await rig.openPage();
  await page.goto(rig.stack.local.url);
  await page.getByLabel('Admin key').waitFor();
});
