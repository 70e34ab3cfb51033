/** Keys: made, limited, used, rotated and revoked by clicks. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { signatureOf } from '../fakes/standard-webhooks.ts';
import { checkApiKey } from '../../protocol/identity.ts';
import { useDashboard } from './dashboard-rig.ts';

const rig = useDashboard();

const ask = (key: string) =>
  fetch(`${rig.stack.local.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      ...{ model: 'support/intent', max_tokens: 1 },
      messages: [{ role: 'user', content: 'hi' }],
    }),
  });
/** The key that is shown now. */
const shown = async (): Promise<string> =>
  (await rig.page.getByRole('region', { name: 'The new key' }).locator('code').textContent()) ?? '';
let first = '';

it('makes a key with limits, shows it once, and it works', async () => {
  const { page } = rig;
  await rig.open('#/keys');
  await page.getByRole('button', { name: 'New key' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Label').fill('checkout');
  await dialog.getByLabel('Valid for').selectOption('30 days');
  await rig.look('new-key');
  await dialog.getByText('More: rights, kept prompts, limits').click();
  await dialog.getByLabel('Requests a minute').fill('50');
  await rig.look('new-key-more');
  await rig.confirm('Create the key');
  first = await shown();
  expect(checkApiKey(first)).toBe('gk');
  expect((await ask(first)).status).toBe(200);
  await rig.look('keys');
  await page.getByRole('button', { name: 'I have it' }).click();
  expect(await page.getByText(first).count()).toBe(0);
  const row = page.getByRole('row', { name: /^checkout/ });
  await row.getByText('50 requests/min').waitFor();
  // Usage is written after a moment, and read again every half minute.
  const used = async () => {
    await page.reload();
    await row.waitFor();
    return row.getByText('this hour').count();
  };
  await expect.poll(used, { interval: 1_000 }).toBe(1);
});

it('says what is wrong with a key that cannot be made', async () => {
  const { page } = rig;
  await page.getByRole('button', { name: 'New key' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Scopes').fill('Not/A/Name');
  await dialog.getByRole('button', { name: 'Create the key' }).click();
  await dialog.getByRole('alert').getByText(/scope/).waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
});

it('changes limits, and takes them away', async () => {
  const { page } = rig;
  const row = page.getByRole('row', { name: /^checkout/ });
  await row.getByRole('button', { name: 'Change checkout' }).click();
  const dialog = page.getByRole('dialog');
  expect(await dialog.getByLabel('Requests a minute').inputValue()).toBe('50');
  await dialog.getByLabel('Requests a minute').fill('');
  await dialog.getByLabel('Tokens a day').fill('1000000');
  await rig.confirm('Change it');
  await row.getByText('1,000,000 tokens/day').waitFor();
  expect(await row.getByText('requests/min').count()).toBe(0);
});

it('has what a key asks kept for a time, and says so', async () => {
  const { page } = rig;
  const row = page.getByRole('row', { name: /^checkout/ });
  const change = () => row.getByRole('button', { name: 'Change checkout' }).click();
  const keep = page.getByRole('dialog').getByLabel('Keep prompts and answers');
  await change();
  await keep.selectOption('A week');
  await rig.look('change-key');
  await rig.confirm('Change it');
  await row.getByText('prompts kept 7 days').waitFor();
  await row.getByRole('button', { name: 'Revoke checkout' }).click();
  await page.getByLabel('Delete its prompts and answers now').waitFor();
  await rig.look('revoke-kept');
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  await change();
  expect(await keep.inputValue()).toBe('A week');
  await keep.selectOption('Not at all');
  await rig.confirm('Change it');
  await row.getByText('prompts kept').waitFor({ state: 'detached' });
});

it('rotates a key, whose old one ends at once where that is asked for', async () => {
  const { page } = rig;
  await page.getByRole('button', { name: 'Rotate checkout' }).click();
  await page.getByRole('dialog').getByLabel('The old key stays valid for').selectOption('not at all');
  await rig.confirm('Rotate');
  const second = await shown();
  expect(second).not.toBe(first);
  expect((await ask(second)).status).toBe(200);
  await expect.poll(async () => (await ask(first)).status, { interval: 1_000 }).toBe(401);
  await page.getByText(/Also \d+ revoked or expired/).click();
  await page.getByText('expired', { exact: true }).waitFor();
  await rig.look('keys-all');
  await page.getByText(/Also \d+ revoked or expired/).click();
  first = second;
});

it('adds a webhook that is told of budgets, tests it, shows its secret, and removes it', async () => {
  const { page } = rig;
  const got: { id: string; at: string; body: string; signature: unknown }[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => (body += text));
    request.on('end', () => {
      const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signature } = request.headers;
      got.push({ id: String(id), at: String(at), body, signature });
      response.writeHead(200).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/graft`;
  try {
    const webhooks = page.getByRole('region', { name: 'Webhooks', exact: true }).first();
    await webhooks.getByText('There is none yet.').waitFor();
    await page.getByRole('button', { name: 'New webhook' }).click();
    await page.getByRole('dialog').getByLabel('URL').fill('http://10.0.0.1/');
    await page.getByRole('dialog').getByRole('button', { name: 'Create the webhook' }).click();
    await page
      .getByRole('dialog')
      .getByRole('alert')
      .getByText(/must begin with https/)
      .waitFor();
    await page.getByRole('dialog').getByLabel('URL').fill(url);
    await rig.look('new-webhook');
    await rig.confirm('Create the webhook');
    const note = page.getByRole('region', { name: 'The secret of the webhook' });
    const secret = (await note.locator('code').textContent()) ?? '';
    await rig.look('webhook');
    await note.getByRole('button', { name: 'Close' }).click();
    await page.getByRole('button', { name: `Test ${url}` }).click();
    await page.getByText('Delivered: the receiver answered 200.').waitFor();
    expect(got).toHaveLength(1);
    expect(JSON.parse(got[0]!.body)).toMatchObject({ type: 'webhook.test' });
    expect(got[0]!.signature).toBe(signatureOf(got[0]!, secret));
    await page.getByRole('button', { name: `Show the secret of ${url}` }).click();
    expect(await note.locator('code').textContent()).toBe(secret);
    await page.getByRole('button', { name: `Remove ${url}` }).click();
    await rig.confirm('Remove it');
    await webhooks.getByText('There is none yet.').waitFor();
  } finally {
    server.close();
  }
});

it('finds keys, revokes one, and it is refused', async () => {
  const { page } = rig;
  await page.getByRole('searchbox', { name: 'Keys with' }).fill('CHECK');
  await page.getByText(/^1 of \d+ keys$/).waitFor();
  await page.getByRole('button', { name: 'Revoke checkout' }).click();
  await rig.look('revoke');
  await rig.confirm('Revoke');
  await page.getByText('No key contains it.').waitFor();
  await expect.poll(async () => (await ask(first)).status, { interval: 1_000 }).toBe(401);
  expect(rig.complaints).toEqual([]);
});
