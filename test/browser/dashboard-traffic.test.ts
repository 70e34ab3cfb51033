/** How it goes, who uses what, and the last requests: from a completion to the page. */
import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import type { RequestList } from '../../protocol/admin-api/traffic.ts';
import type { UsageReport } from '../../protocol/admin-api/tenants.ts';
import { NAME, useDashboard } from './dashboard-rig.ts';
import {
  sampleHistory,
  sampleRequests,
  sampleTraffic,
  sampleUsage,
  sampleUsageDays,
} from './sample-traffic.ts';

const rig = useDashboard();

const ask = async (model: string, more: object = {}) => {
  const body = { model, max_tokens: 4, messages: [{ role: 'user', content: 'hi' }], ...more };
  const answer = await rig.post('/v1/chat/completions', body);
  await answer.text();
  return answer;
};

it('says what to do while there is no request, and draws those that come', async () => {
  const { page } = rig;
  await rig.signIn();
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  await page.getByText('No requests in this time.').waitFor();
  await page.getByText('No usage in this time.').waitFor();
  await page.getByRole('region', { name: 'Last changes' }).getByText(`${NAME}/child`).waitFor();
  await rig.look('overview-empty');

  for (let i = 0; i < 3; i += 1) expect((await ask(NAME, { stream: true })).status).toBe(200);
  expect((await ask('no/such/name')).status).toBe(404);
  // It is sent after 5 s, written some seconds later, and asked for each 15 s.
  await page.getByRole('img', { name: /^Requests over time; answered: at most/ }).waitFor();
  const tile = (name: string) => page.locator('.tiles > div', { hasText: name });
  expect(await tile('Requests').locator('dd').first().textContent()).toBe('4');
  expect(await tile('Errors').textContent()).toContain('25 %');
  expect(await tile('TTFT p50').textContent()).toMatch(/\d ms/);
  await page.getByRole('row', { name: /404 model_not_found no such name.* 1$/ }).waitFor();
  await page.getByRole('row', { name: new RegExp(`^${NAME} 3 0 `) }).waitFor();
  await rig.look('overview-few');
});

it('shows a day, and what the pointer is on', async () => {
  const { page } = rig;
  await page.route('**/admin/traffic*', (route) => route.fulfill({ json: sampleTraffic(Date.now()) }));
  await page.getByRole('button', { name: '30 days' }).click();
  await page.getByRole('button', { name: '24 hours' }).click();
  const chart = page.getByRole('img', { name: /^Requests over time/ });
  await chart.hover({ position: { x: 200, y: 60 } });
  await page.locator('figure', { has: chart }).locator('time').waitFor();
  await rig.look('overview');
});

it('has the figures of `graft usage`, and a file of them', async () => {
  const { page, stack } = rig;
  await page.unrouteAll();
  await rig.goTo('Usage');
  await page.getByText('the edge has no price list').waitFor();
  const cli = async (by: string) => {
    const { rows } = JSON.parse((await stack.graft('usage', '--by', by, '--json')).stdout) as UsageReport;
    return rows.map((row) => [
      row.requests,
      row.errors,
      row.prompt_tokens,
      row.completion_tokens,
      row.total_tokens,
    ]);
  };
  for (const by of ['Key', 'Name', 'Version', 'Tenant', 'Day']) {
    await page.getByRole('button', { name: by, exact: true }).click();
    await page.getByRole('img', { name: /^Requests a day over time; answered: at most 3, errors/ }).waitFor();
    const table = page.getByRole('region', { name: `Usage by ${by.toLowerCase()}` });
    await table.waitFor();
    const shown = await table
      .locator('tbody tr:not(.sum)')
      .evaluateAll((lines) =>
        lines.map((line) =>
          [...line.querySelectorAll('td')].map(({ textContent }) => Number(textContent!.replaceAll(',', ''))),
        ),
      );
    expect([by, shown]).toEqual([by, await cli(by.toLowerCase())]);
  }
  await page.getByRole('button', { name: 'Name', exact: true }).click();
  await page.getByRole('region', { name: 'Usage by name' }).waitFor();
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', { name: 'Download CSV' }).click(),
  ]);
  expect(download.suggestedFilename()).toBe('usage-by-name.csv');
  const file = await readFile(await download.path(), 'utf8');
  expect(file).toBe((await stack.graft('usage', '--by', 'name', '--csv')).stdout);
  await rig.look('usage-few');

  await page.route('**/admin/usage?by=name*', (route) => route.fulfill({ json: sampleUsage() }));
  await page.route('**/admin/usage?by=day*', (route) => route.fulfill({ json: sampleUsageDays() }));
  await page.getByRole('button', { name: '7 days' }).click();
  for (const title of ['Tokens', 'Requests', 'Cost'])
    await page.getByRole('img', { name: new RegExp(`^${title} a day over time`) }).waitFor();
  await page.getByRole('row', { name: /^All together .* USD$/ }).waitFor();
  await rig.look('usage');
  await page.getByRole('button', { name: 'Last month' }).click();
  await page.getByRole('button', { name: 'Version', exact: true }).click();
  await page.getByText('No usage in this time.').waitFor();
  await rig.look('usage-empty');
  await page.unrouteAll();
});

it('shows the usage of any days, and keeps them in its address', async () => {
  const { page } = rig;
  const today = new Date().toISOString().slice(0, 10);
  await rig.goTo('Usage');
  await page.getByRole('button', { name: 'Name', exact: true }).click();
  await page.getByLabel('From', { exact: true }).fill('2026-02-01');
  await page.getByLabel('To, that day too').fill('2026-01-01');
  await page.getByRole('button', { name: 'Show these days' }).click();
  await page.getByText('The last day is before the first.').waitFor();
  await rig.look('usage-days-wrong');
  await page.getByLabel('To, that day too').fill(today);
  const [asked] = await Promise.all([
    page.waitForRequest('**/admin/usage?by=name*'),
    page.getByRole('button', { name: 'Show these days' }).click(),
  ]);
  const query = Object.fromEntries(new URL(asked.url()).searchParams);
  const tomorrow = new Date(Date.parse(today) + 86_400_000).toISOString().slice(0, 10);
  expect(query).toEqual({ by: 'name', from: '2026-02-01', to: tomorrow });
  await page.getByText(`From 2026-02-01 00:00 to ${tomorrow} 00:00 UTC`).waitFor();
  expect(new URL(page.url()).hash).toBe(`#/usage?by=name&from=2026-02-01&to=${today}`);
  expect(await page.getByRole('button', { name: '30 days' }).getAttribute('aria-pressed')).toBe('false');
  await page.reload();
  await page.getByRole('row', { name: new RegExp(`^${NAME} 3 0 `) }).waitFor();
  expect(await page.getByLabel('From', { exact: true }).inputValue()).toBe('2026-02-01');
  await rig.look('usage-days');

  await page.evaluate(`location.hash = '#/usage?from=2999-01-01'`);
  await page.getByText(`This day is in the future: in UTC it is ${today}.`).waitFor();
  expect(await page.getByRole('table').count()).toBe(0);
  await page.getByRole('button', { name: '24 hours' }).click();
  await page.getByRole('region', { name: 'Usage by key' }).waitFor();
  expect(new URL(page.url()).hash).toBe('#/usage?span=1');
});

it('lists the last requests, and what each waited for, without what was said', async () => {
  const { page, stack } = rig;
  await rig.goTo('Requests');
  const table = page.getByRole('region', { name: 'Requests' });
  await table.locator('tbody tr').nth(3).waitFor();
  expect(await table.locator('tbody tr').count()).toBe(4);
  await page.getByRole('button', { name: 'Errors', exact: true }).click();
  const row = page.getByRole('row', { name: /404 unknown: .*model_not_found/s });
  await row.waitFor();
  await expect.poll(() => table.locator('tbody tr').count()).toBe(1);
  await row.getByRole('button').click();
  await page.getByText('no such name, or not for this key').waitFor();
  const listed = JSON.parse(
    (await stack.graft('requests', '--status', 'failed', '--json')).stdout,
  ) as RequestList;
  expect(listed.requests).toHaveLength(1);
  await page.getByText(listed.requests[0]!.id).waitFor();
  const text = await stack.graft('requests', '--name', NAME);
  expect(text.stdout.match(new RegExp(`200 +${NAME}@1`, 'g'))).toHaveLength(3);
  expect(text.stdout).toMatch(/origin-queue \d+, origin-first \d+/);
  await page.getByRole('button', { name: 'All', exact: true }).click();
  await page
    .getByRole('row', { name: new RegExp(NAME) })
    .first()
    .getByRole('button')
    .click();
  for (const part of ['queue: waited for a row', 'prefill: prompt read'])
    await page.getByText(part).waitFor();
  await page.getByLabel('Name, exactly').fill('nobody');
  await page.getByText('No recent request matches.').waitFor();
  await rig.look('requests-none');
  await page.getByLabel('Name, exactly').fill('');
  await page.route('**/admin/requests*', (route) =>
    route.fulfill({ json: { requests: sampleRequests(Date.now()), truncated: true, left_out: 214 } }),
  );
  await page.getByRole('button', { name: 'Answered' }).click();
  await table.locator('tbody tr').nth(40).waitFor();
  await table.getByRole('button').nth(1).click();
  await page.getByText('to the origin').first().waitFor();
  await rig.look('requests');
  await page.unrouteAll();
});

it('shows an operator one tenant, by its address', async () => {
  const { page, stack } = rig;
  // While there is one tenant alone, there is nothing to choose.
  await rig.goTo('Overview');
  await page.getByRole('img', { name: /^Requests over time/ }).waitFor();
  expect(await page.getByLabel('Tenant').count()).toBe(0);
  const made = await stack.graft('keys', 'create', '--tenant', 'acme', '--json');
  const { key } = JSON.parse(made.stdout) as { key: string };
  const answer = await fetch(`${stack.local.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'base', max_tokens: 2, messages: [{ role: 'user', content: 'hi' }] }),
  });
  expect([answer.status, await answer.text()]).toEqual([200, expect.any(String)]);
  await expect.poll(async () => (await stack.graft('usage', '--by', 'tenant')).stdout).toContain('acme');
  await page.reload();
  await page.getByLabel('Tenant').selectOption('acme');
  expect(new URL(page.url()).hash).toBe('#/overview?tenant=acme');
  const requests = page.locator('.tiles > div', { hasText: 'Requests' }).locator('dd').first();
  await requests.waitFor();
  expect(await requests.textContent()).toBe('1');
  const names = page.getByRole('region', { name: 'Names by tokens' }).locator('tbody tr');
  expect(await names.allTextContents()).toEqual([expect.stringMatching(/^base1/)]);
  // All names of this edge are the other tenant's.
  await page.getByText('No changes yet.').waitFor();
  await rig.look('overview-tenant');
  await page.getByRole('button', { name: 'Hour', exact: true }).click();
  expect(new URL(page.url()).hash).toBe('#/overview?hours=1&tenant=acme');
  await page.reload();
  await page.getByLabel('Tenant').selectOption('');
  await expect.poll(() => requests.textContent()).toBe('5');
  expect(new URL(page.url()).hash).toBe('#/overview?hours=1');

  await page.evaluate(`location.hash = '#/overview?tenant=nobody'`);
  await page.getByText('No requests of nobody in this time.').waitFor();
  expect(await page.getByLabel('Tenant').inputValue()).toBe('nobody');
  await page.getByLabel('Tenant').selectOption('');
});

it('shows a day of an origin, and whose adapters it holds', async () => {
  const { page } = rig;
  await page.route('**/admin/origins/history*', (route) =>
    route.fulfill({ json: sampleHistory('local', Date.now()) }),
  );
  await rig.goTo('Origins');
  await page.getByRole('img', { name: /^Memory over time; process: at most/ }).waitFor();
  await page.getByText('Resident adapters, and their owners').click();
  await page
    .getByRole('region', { name: /^Memory of adapters/ })
    .getByText('default')
    .waitFor();
  await rig.look('origins-day');
  await page.unrouteAll();
});

it('shows what a request said, where its key has that kept, and says who read it', async () => {
  const { page, stack } = rig;
  const made = await stack.graft('keys', 'create', '--scopes', '**', '--keep-prompts', '24h', '--json');
  const { key } = JSON.parse(made.stdout) as { key: string };
  const text = 'What is <b>this</b>?\nSay it.';
  const answer = await fetch(`${stack.local.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      ...{ model: NAME, max_tokens: 3, stream: true },
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: text },
      ],
    }),
  });
  expect([answer.status, await answer.text()]).toEqual([200, expect.any(String)]);
  const id = answer.headers.get('x-request-id') ?? '';
  await rig.goTo('Requests');
  const details = page.getByRole('button', { name: `Details of request ${id}` });
  // Anywhere in the row.
  const row = page.getByRole('row').filter({ has: details });
  await row.locator('.phases').click();
  expect(await details.getAttribute('aria-expanded')).toBe('true');
  await details.click();
  expect(await details.getAttribute('aria-expanded')).toBe('false');
  await row.getByRole('rowheader').click();
  expect(await page.getByText('Be brief.').count()).toBe(0);
  await page.getByRole('button', { name: 'Show prompt and answer' }).click();
  const said = page.getByRole('region', { name: 'Prompt and answer' });
  expect(await said.locator('dd').nth(1).textContent()).toBe(text);
  expect(await said.locator('dt').allTextContents()).toEqual(['system', 'user', 'answer']);
  const shown = await stack.graft('requests', '--show', id);
  expect(shown.stdout).toContain('user\n  What is <b>this</b>?\n  Say it.\nanswer\n  ');
  expect((await stack.graft('log')).stdout).toMatch(new RegExp(`\\*\\* +read-prompt ${id} `));
  await rig.look('request-said');

  const prompt = Array.from({ length: 40 }, (_, i) => `${i}: long `.repeat(30)).join('\n');
  await page.route('**/admin/requests/*/prompt*', (route) =>
    route.fulfill({
      json: {
        ...{ id, at: 1, tenant: 'default', key_id: 'key_1', name: NAME, expires_at: Date.now() + 3_600_000 },
        ...{ prompt: [{ role: 'user', text: prompt }], prompt_cut: true, answers: null, answers_cut: true },
      },
    }),
  );
  await page.reload();
  await page.getByRole('button', { name: `Details of request ${id}` }).click();
  await page.getByRole('button', { name: 'Show prompt and answer' }).click();
  await page.getByText('The prompt was longer').waitFor();
  await page.getByText('The answer was too long to keep.').waitFor();
  await rig.look('request-said-long');
  await page.unrouteAll();
  await page.route('**/admin/requests/*/prompt*', (route) =>
    route.fulfill({ status: 403, json: { error: { message: 'No right.', code: 'insufficient_scope' } } }),
  );
  await page.reload();
  await page.getByRole('button', { name: `Details of request ${id}` }).click();
  await page.getByRole('button', { name: 'Show prompt and answer' }).click();
  await page.getByText('No right.').waitFor();
  await page.unrouteAll();
});

// Here, since it takes an origin's first two minutes.
it('draws what an origin itself has said of its memory', async () => {
  const { page } = rig;
  await rig.goTo('Origins');
  await page.getByRole('img', { name: /^Memory over time/ }).waitFor();
  // Beside each other, and from the first minute on.
  const tops = await page
    .locator('.charts figure')
    .evaluateAll((all) => all.map((one) => one.getBoundingClientRect().top));
  expect([tops.length, new Set(tops).size]).toEqual([3, 1]);
  await page.getByText('earlier data is missing').waitFor();
  await rig.look('origins-first');
});

it('says that it is old when the edge is down, and since when', async () => {
  const { page } = rig;
  await rig.goTo('Overview');
  await page.getByRole('img', { name: /^Requests over time/ }).waitFor();
  await page.context().setOffline(true);
  const note = page.locator('.offline');
  await note.getByText('Shown is the state of').waitFor();
  expect(await page.getByRole('alert').count()).toBe(1);
  await page.getByRole('img', { name: /^Requests over time/ }).waitFor();
  await rig.look('overview-old');
  await page.context().setOffline(false);
  await note.waitFor({ state: 'detached' });
  await page.unrouteAll();
});

it('has given the browser nothing to complain of', () => {
  expect(rig.complaints).toEqual([]);
});
