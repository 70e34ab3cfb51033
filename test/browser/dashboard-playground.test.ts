/** The playground: conversations with two at once, kept and sent on. */
import type { Locator } from 'playwright-core';
import { expect, it } from 'vitest';
import { NAME, useDashboard } from './dashboard-rig.ts';

const rig = useDashboard();

const side = (name: 'Left' | 'Right') => rig.page.getByLabel(`${name} side`);
/** Waits until both sides have ended so many answers. */
const done = async (turns: number) => {
  for (const name of ['Left', 'Right'] as const)
    await expect.poll(() => side(name).getByText('done', { exact: true }).count()).toBe(turns);
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
  await page.getByLabel('Stop texts, one per line').fill('END');
  // Letter by letter, whatever the tiny base says that is Markdown too.
  await page.getByLabel('As text').check();
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
  await page.getByLabel('As text').check();
  await expect.poll(said).toEqual(before);
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

/** Two answers that the page gets in the place of the edge's. @param cut the stream ends before its answer does. */
async function answerWith(texts: { left: string; right: string }, cut = false): Promise<void> {
  await rig.page.route('**/v1/chat/completions', (route) => {
    const { model } = route.request().postDataJSON() as { model: string };
    const delta = { content: model === NAME ? texts.left : texts.right };
    const events = [JSON.stringify({ choices: [{ delta }] }), ...(cut ? [] : ['[DONE]'])];
    const body = events.map((data) => `data: ${data}\n\n`).join('');
    return route.fulfill({ headers: { 'content-type': 'text/event-stream' }, body });
  });
}

async function askAnew(prompt: string): Promise<void> {
  const { page } = rig;
  await page.getByRole('button', { name: 'New conversation' }).click();
  await page.getByText('No answer yet.').first().waitFor();
  await page.getByLabel('Prompt').fill(prompt);
  await page.getByRole('button', { name: 'Ask both' }).click();
}

it('draws Markdown, of which nothing runs and nothing is fetched', async () => {
  const { page } = rig;
  await page.getByLabel('As text').uncheck();
  const elsewhere: string[] = [];
  page.on('request', (request) => {
    if (!request.url().startsWith(rig.stack.local.url)) elsewhere.push(request.url());
  });
  const left = [
    '# Refunds',
    'A **bold** word, *two*, ~~three~~, `code` & an entity: &lt;b&gt;.\nA second line.',
    '1. one\n2. two\n   - [x] ready\n   - [ ] open',
    '| name | share |\n|---|--:|\n| a | 1 |\n| b | 2 |',
    '> said before',
    '```python\nprint("x" * 100)  # a line that is far longer than what is beside it, so that it has to be scrolled\n```',
    '[docs](https://example.com/a?b=1 "title"), https://example.com/bare, ![a picture](https://example.com/x.png)',
  ].join('\n\n');
  const right = [
    '<img src=x onerror="window.ran=true"> <script>window.ran=true</script>',
    '<iframe srcdoc="<script>parent.ran=true</script>"></iframe>',
    `[a](${['javascript', 'window.ran=true'].join(':')}) [b](data:text/html,x) [c](/admin/names) [d](#/keys) [e](//example.com)`,
    'Half a block:\n\n```js\nconst half = 1;',
  ].join('\n\n');
  await answerWith({ left, right });
  await askAnew('How?');
  await done(1);
  const drawn = side('Left').locator('.answer');
  await drawn.getByRole('heading', { name: 'Refunds' }).waitFor();
  await drawn.getByText('an entity: <b>.').waitFor();
  expect(await drawn.locator('li').count()).toBe(4);
  expect(await drawn.getByRole('checkbox').count()).toBe(2);
  expect(await drawn.locator('td').allTextContents()).toEqual(['a', '1', 'b', '2']);
  expect(
    await drawn
      .locator('a')
      .evaluateAll((links) =>
        links.map((link) => ['href', 'target', 'rel'].map((name) => link.getAttribute(name)).join(' ')),
      ),
  ).toEqual(
    ['a?b=1', 'bare', 'x.png'].map((name) => `https://example.com/${name} _blank noopener noreferrer`),
  );
  await drawn.getByText('image: a picture').waitFor();
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await drawn.getByRole('button', { name: 'Copy the code' }).click();
  expect(await page.evaluate('navigator.clipboard.readText()')).toMatch(/^print\("x".*scrolled$/);

  const odd = side('Right').locator('.answer');
  await odd.getByText('<img src=x onerror=').waitFor();
  await odd.getByText('a (javascript:window.ran=true) b (data:text/html,x) c (/admin/names)').waitFor();
  expect(await odd.locator('a, img, script, iframe').count()).toBe(0);
  expect(await odd.locator('pre').textContent()).toBe('const half = 1;');
  expect(await page.evaluate("window.ran ?? 'no'")).toBe('no');
  expect(elsewhere).toEqual([]);
  await rig.look('playground-markdown');
  await page.getByLabel('As text').check();
  expect(await drawn.textContent()).toBe(left);
  await page.getByLabel('As text').uncheck();

  await page.unrouteAll();
  await answerWith({ left: 'A list:\n\n- **one** is cut in the mid', right: '```\na\n``' }, true);
  await askAnew('And?');
  await side('Left').getByText('The answer was cut off.').waitFor();
  await expect.poll(() => drawn.locator('li').textContent()).toBe('one is cut in the mid');
  await expect.poll(() => odd.locator('pre').textContent()).toBe('a\n``');
  await page.unrouteAll();
});

it('marks where two answers differ, and copies a side as code', async () => {
  const { page } = rig;
  await answerWith({ left: 'The refund is on its way.', right: 'The parcel is on its way today.' });
  await askAnew('Where is it?');
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

it('shows the end of a long conversation above the composer, and leaves whoever has scrolled up', async () => {
  const { page } = rig;
  const lines = (count: number) => Array.from({ length: count }, (_, i) => `Line ${i}.`).join('\n\n');
  await answerWith({ left: lines(12), right: 'Short.' });
  await page.getByRole('button', { name: 'New conversation' }).click();
  const prompt = page.getByLabel('Prompt');
  for (const turns of [1, 2, 3]) {
    await prompt.fill(`Question ${turns},`);
    await prompt.press('Shift+Enter');
    await prompt.pressSequentially('in two lines?');
    expect(await prompt.inputValue()).toBe(`Question ${turns},\nin two lines?`);
    await prompt.press('Enter');
    await done(turns);
    expect(await prompt.inputValue()).toBe('');
  }
  const edge = async (of: Locator, which: 'y' | 'end') => {
    const box = (await of.boundingBox())!;
    return which === 'y' ? box.y : box.y + box.height;
  };
  const last = (name: 'Left' | 'Right') => side(name).locator('.turn').last();
  const covered = async () =>
    (await edge(last('Left'), 'end')) - (await edge(page.locator('.composer'), 'y'));
  await expect.poll(covered).toBeLessThanOrEqual(0);
  expect(await edge(last('Right'), 'y')).toBe(await edge(last('Left'), 'y'));
  expect(await last('Right').locator('.after').textContent()).toMatch(/^doneTTFT [\d.,]+ m?s1 token/);
  await rig.look('playground-long');

  await page.evaluate('scrollTo(0, 0)');
  await page.unrouteAll();
  await page.route('**/v1/chat/completions', (route) =>
    route.fulfill({ status: 503, json: { error: { message: 'Busy.', code: 'queue_full' } } }),
  );
  await prompt.fill('And now?');
  await prompt.press('Enter');
  await last('Left').getByRole('alert').getByText('Wait a moment').waitFor();
  await expect.poll(covered).toBeLessThanOrEqual(0);
  // The page hears of a scroll in the next frame. Growth in the same frame would take it for its own.
  const scrollUp = `new Promise((heard) => {
    scrollTo(0, 0);
    requestAnimationFrame(() => requestAnimationFrame(() => heard(scrollY)));
  })`;
  await expect.poll(() => page.evaluate(scrollUp)).toBe(0);
  await page.unrouteAll();
  // Growth that nobody asked for.
  const height = () => page.evaluate<number>('document.documentElement.scrollHeight');
  const before = await height();
  await page.setViewportSize({ width: 800, height: 800 });
  await expect.poll(height).not.toBe(before);
  expect(await page.evaluate('scrollY')).toBe(0);
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.getByRole('button', { name: 'New conversation' }).click();
});

it('keeps its address true while somebody types fast, without more changes of it than browsers take', async () => {
  const { page } = rig;
  await page.evaluate(`(() => {
    const { replaceState } = history;
    window.written = 0;
    history.replaceState = function (...given) {
      window.written += 1;
      // As Safari does.
      if (window.written > 100) throw new DOMException('Attempt to use history.replaceState() more than 100 times', 'SecurityError');
      return replaceState.apply(this, given);
    };
  })()`);
  const text = 'a question that is typed '.repeat(10).trim();
  await page.getByLabel('Prompt').pressSequentially(text);
  expect(await page.getByLabel('Prompt').inputValue()).toBe(text);
  const inAddress = () => new URLSearchParams(new URL(page.url()).hash.split('?')[1]).get('prompt');
  await expect.poll(inAddress).toBe(text);
  expect(rig.complaints).toEqual([]);
});

it('writes from right to left what is read so', async () => {
  const { page } = rig;
  await answerWith({ left: 'שלום, מה שלומך?\n\n```\ncode\n```', right: 'All is well.' });
  await page.getByLabel('Mark differences').uncheck();
  await page.getByLabel('Prompt').fill('שלום?');
  const direction = (of: string) =>
    page.evaluate(`getComputedStyle([...document.querySelectorAll('${of}')].at(-1)).direction`);
  expect(await direction('.composer textarea')).toBe('rtl');
  await page.getByRole('button', { name: 'Ask both' }).click();
  await expect.poll(() => side('Left').locator('.answer').last().textContent()).toContain('שלום');
  await side('Left').locator('.answer pre').last().waitFor();
  expect(await direction('[aria-label="Left side"] .answer')).toBe('rtl');
  expect(await direction('[aria-label="Left side"] .answer pre')).toBe('ltr');
  expect(await direction('[aria-label="Left side"] .asked')).toBe('rtl');
  expect(await direction('[aria-label="Right side"] .answer')).toBe('ltr');
  await rig.look('playground-rtl');
  await page.unrouteAll();
});

it('takes another API key in the place of one that is none any more', async () => {
  const { page, stack } = rig;
  const made = await stack.graft('keys', 'create', '--json');
  const { id, key } = JSON.parse(made.stdout) as { id: string; key: string };
  await page.evaluate(`sessionStorage.setItem('graft.api-key', '${key}')`);
  await page.reload();
  await page.getByRole('heading', { name: 'Playground' }).waitFor();
  expect((await stack.graft('keys', 'revoke', id)).code).toBe(0);
  const status = async () => {
    const headers = { authorization: `Bearer ${key}` };
    return (await fetch(`${stack.local.url}/v1/models`, { headers })).status;
  };
  await expect.poll(status, { interval: 1_000 }).toBe(401);
  await page.getByLabel('Prompt').fill('hello');
  await page.getByRole('button', { name: 'Ask both' }).click();
  const other = page.getByRole('region', { name: 'Another API key' });
  await other.getByLabel('API key').fill(stack.local.key);
  await rig.look('playground-refused');
  await other.getByRole('button', { name: 'Use it' }).click();
  await other.waitFor({ state: 'detached' });
  await page.getByLabel('Prompt').fill('hello');
  await page.getByRole('button', { name: 'Ask both' }).click();
  await expect
    .poll(() => side('Left').locator('.turn').last().getByText('done', { exact: true }).count())
    .toBe(1);
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
