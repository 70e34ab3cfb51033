/** Names and their versions: found among many, published, flipped, granted, removed and brought back by clicks. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import type { NameList } from '../../protocol/admin-api/names.ts';
import { sha256Hex } from '../../protocol/identity.ts';
import type { TrainingCurve } from '../../protocol/training.ts';
import { trainingCard } from '../contracts/sample-training.ts';
import { TINY_ADAPTERS, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { NAME, useDashboard } from './dashboard-rig.ts';

const MANY = 1_000;

const rig = useDashboard();

it('has an empty state that says what to do', async () => {
  const { page } = rig;
  await page.route('**/admin/names*', (route) => route.fulfill({ json: { names: [], cursor: null } }));
  await rig.open('#/adapters');
  await page.getByText('Nothing is published yet.').waitFor();
  await rig.look('adapters-empty');
  await page.unrouteAll();
});

it('finds names by any part of them, counted, in the order of their numbers, and shows the chosen one', async () => {
  const { page } = rig;
  await page.route('**/admin/names*', async (route) => {
    const real = (await (await route.fetch()).json()) as NameList;
    const names = Array.from({ length: MANY }, (_, i) => ({
      ...{ ...real.names[0]!, description: 'What it is for', tags: ['a', 'team:b'] },
      name: `zone/team-${i % 20}/user-${i}`,
    }));
    // As long as a name can be.
    names[1]!.name = ['a', 'b', 'c'].map((one) => one.repeat(64)).join('/') + '/' + 'd'.repeat(60);
    await route.fulfill({ json: { names: [...names, ...real.names], cursor: null } });
  });
  await page.route('**/admin/versions?name=zone*', (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set('name', NAME);
    return route.continue({ url: url.href });
  });
  await page.reload();
  await page.getByText(`${(MANY + 2).toLocaleString('en-US')} names`).waitFor();
  await rig.look('adapters-many');
  // There is room for the list or for what is chosen in it.
  await page.setViewportSize({ width: 768, height: 800 });
  expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(768);
  await page.setViewportSize({ width: 1280, height: 800 });
  const search = page.getByRole('searchbox', { name: 'Names with' });
  await search.fill('USER-99 team');
  await page.getByText('11 of 1,002 names.').waitFor();
  const links = await page.getByRole('region', { name: 'Names' }).getByRole('link').allTextContents();
  expect(links.map((text) => text.replace(/@.*/, ''))).toEqual([
    ...['user-990', 'user-991', 'user-992', 'user-993', 'user-994', 'user-995', 'user-996', 'user-997'],
    ...['user-998', 'user-99', 'user-999'],
  ]);
  await search.fill('nothing such');
  await page.getByText('No name contains it.').waitFor();
  await search.fill('');

  // Far down in the list, and yet both it and what it is are in sight.
  await page.getByRole('button', { name: /^zone: / }).click();
  await page.getByRole('button', { name: /^zone\/team-19: / }).click();
  await page.getByRole('link', { name: 'user-999' }).click();
  const heading = page.getByRole('heading', { name: 'zone/team-19/user-999' });
  await heading.waitFor();
  for (const shown of [heading, page.getByRole('link', { name: 'user-999' })]) {
    const box = (await shown.boundingBox())!;
    expect(box.y).toBeGreaterThanOrEqual(0);
    expect(box.y + box.height).toBeLessThanOrEqual(800);
  }
  await page.getByText('What it is for').waitFor();
  await page.getByText('Tags: a, team:b').waitFor();
  await rig.look('adapter-far-down');
  await page.setViewportSize({ width: 768, height: 800 });
  expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(768);
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.unrouteAll();
});

it('publishes files that are dropped, after the checks of the command line', async () => {
  const { page, stack } = rig;
  await rig.open('#/adapters');
  const folder = path.join(stack.folder, 'dropped');
  writeTinyAdapter(folder, TINY_ADAPTERS['everything'] as TinyAdapter);
  // As long as curves get.
  const curve = Array.from({ length: 200 }, (_, i): TrainingCurve[number] => [
    5 * i + 1,
    2.3 * Math.exp(-i / 40) + 0.05 + 0.1 * Math.abs(Math.sin(i)),
    i % 20 === 19 ? 2.4 * Math.exp(-i / 50) + 0.09 : null,
  ]);
  await writeFile(
    path.join(folder, 'training.json'),
    JSON.stringify(trainingCard({ curve, steps: 996 }), null, 2),
  );
  const files = await Promise.all(
    ['adapter_model.safetensors', 'adapter_config.json', 'training.json'].map(async (name) => ({
      name,
      base64: (await readFile(path.join(folder, name))).toString('base64'),
    })),
  );
  const drop = (given: typeof files) =>
    page.evaluate(`(() => {
      const data = new DataTransfer();
      for (const { name, base64 } of ${JSON.stringify(given)})
        data.items.add(new File([Uint8Array.from(atob(base64), (one) => one.charCodeAt(0))], name));
      const target = document.querySelector('.drop');
      for (const type of ['dragover', 'drop'])
        target.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
    })()`);
  const dialog = page.getByRole('dialog');
  await drop([{ name: 'adapter_model.bin', base64: btoa('\x80\x02pickle') }]);
  await dialog.getByLabel('Name').fill('drops/first');
  await dialog.getByRole('button', { name: 'Check' }).click();
  await dialog.getByText('This is a pickle').waitFor();
  await rig.look('publish-refused');
  await dialog.getByRole('button', { name: 'Cancel' }).click();

  // Also on what is open already.
  await page.getByRole('button', { name: 'Publish', exact: true }).click();
  await dialog.getByText('adapter_model.safetensors and adapter_config.json').waitFor();
  await drop(files);
  await dialog.getByText(/^adapter_model\.safetensors \(/).waitFor();
  await dialog.getByLabel('Name').fill('Drops');
  await dialog.getByText('A name may contain only').waitFor();
  await dialog.getByLabel('Name').fill('drops/first');
  await dialog.getByRole('button', { name: 'Check' }).click();
  await dialog.getByText('It becomes drops/first@1, live at once.').waitFor();
  await dialog.getByText('Its training card goes with it: 60 rows, 996 steps.').waitFor();
  await rig.look('publish');
  await dialog.getByRole('button', { name: 'Publish' }).click();
  await page.getByText('drops/first@1 is live.').waitFor();
  await page.getByRole('heading', { name: 'drops/first' }).waitFor();
  const published = await stack.graft('versions', 'drops/first', '--json');
  const packed = await stack.graft('pack', 'dropped', '-o', 'packed.safetensors', '--json');
  const { digest } = JSON.parse(packed.stdout) as { digest: string };
  expect(published.stdout).toContain(digest);

  const training = page.getByRole('region', { name: 'Training' });
  for (const text of ['60 trained on, 40 held out, 1 too long', 'q, v', '38 of 40', '2.4 → 0.09'])
    await training.getByText(text, { exact: true }).waitFor();
  const plot = training.getByRole('img', {
    name: /^Loss over 996 steps; training: from 2\.35 to 0\.\d+, held out: /,
  });
  await plot.hover();
  await training.getByText(/^step \d+$/).waitFor();
  await rig.look('adapter-training');
});

it('downloads a version as the file that its digest names', async () => {
  const { page, stack } = rig;
  const waiting = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Download version 1' }).click();
  const download = await waiting;
  expect(download.suggestedFilename()).toBe('drops-first-1.safetensors');
  const digest = await sha256Hex(new Uint8Array(await readFile(await download.path())));
  expect((await stack.graft('versions', 'drops/first', '--json')).stdout).toContain(digest);
});

it('gives an alias, a pin, a grant and the mark of a strict name, and takes them back', async () => {
  const { page } = rig;
  const dialog = page.getByRole('dialog');
  await page.getByRole('button', { name: 'Alias' }).click();
  await dialog.getByLabel('The new name').fill('drops/best');
  await rig.confirm('Create the alias');
  await page.getByRole('link', { name: 'best → drops/first' }).waitFor();

  await page.getByRole('button', { name: 'Pin', exact: true }).click();
  await rig.confirm('Pin it');
  await page.getByRole('button', { name: 'Unpin' }).click();
  await rig.confirm('Unpin it');
  await page.getByRole('button', { name: 'Pin', exact: true }).waitFor();

  await page.getByRole('button', { name: 'Strict', exact: true }).click();
  await rig.confirm('Make it strict');
  await page.getByText('Strict: missing names below it').waitFor();
  await page.getByRole('button', { name: 'Not strict' }).click();
  await rig.confirm('Make it inheritable');

  const access = page.getByRole('region', { name: 'Access' });
  await access.getByText('Only its owner’s keys').waitFor();
  await access.getByRole('button', { name: 'Grant' }).click();
  await dialog.getByLabel('Tenant').fill('acme');
  await dialog.getByLabel(/everything below it/).check();
  await rig.look('grant');
  await rig.confirm('Grant');
  await access.getByText('acme may use drops/first/**').waitFor();
  await rig.look('granted');
  await access.getByRole('button', { name: 'Revoke' }).click();
  await rig.confirm('Revoke');
  await access.getByText('Only its owner’s keys').waitFor();
});

it('says how to call it with each client, and copies that', async () => {
  const { page, stack } = rig;
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  const code = page.getByRole('region', { name: 'Call it' });
  for (const [language, words] of [
    ['curl', `curl ${stack.local.url}/v1/chat/completions`],
    ['OpenAI Python', 'from openai import OpenAI'],
    ['OpenAI JS', "import OpenAI from 'openai';"],
    ['LangChain', 'from langchain_openai import ChatOpenAI'],
    ['LlamaIndex', 'from llama_index.llms.openai_like import OpenAILike'],
    ['AI SDK', "import { createOpenAICompatible } from '@ai-sdk/openai-compatible';"],
    ['LiteLLM', 'import litellm'],
  ] as const) {
    await code.getByRole('button', { name: language }).click();
    await code.getByText(words).waitFor();
    await code.getByRole('button', { name: 'Copy the code' }).click();
    await code.getByText('Copied').waitFor();
    const copied = await page.evaluate('navigator.clipboard.readText()');
    expect(copied).toContain(words);
    expect(copied).toContain('drops/first');
    expect(copied).not.toContain(stack.local.key);
  }
});

it('calls a version that was rolled back so, not staged', async () => {
  const { page } = rig;
  await page.evaluate(`location.hash = '#/adapters/${NAME}'`);
  await page.getByRole('row', { name: /^2 .*staged/ }).waitFor();
  await page.getByRole('button', { name: 'Promote version 2' }).click();
  await rig.confirm('Promote');
  await page.getByRole('button', { name: 'Roll back version 1' }).click();
  await rig.confirm('Roll back');
  await page.getByRole('row', { name: /^2 .*rolled back/ }).waitFor();
  await page.getByRole('button', { name: 'Promote again version 2' }).waitFor();
  expect(await page.getByText('staged', { exact: true }).count()).toBe(0);
  // Who makes an experiment of it reads the same.
  await page.evaluate(`location.hash = '#/new-experiment/${NAME}'`);
  const choices = page.getByRole('group', { name: 'Versions for treatment' });
  await choices.getByRole('button', { name: /^2 rolled back/ }).waitFor();
  await choices.getByRole('button', { name: /^1 live/ }).waitFor();
  await rig.look('versions-rolled-back');
  await page.evaluate(`location.hash = '#/adapters/${NAME}'`);
  await page.getByRole('row', { name: /^2 .*rolled back/ }).waitFor();

  // On a telephone each version is a card: nothing of it has to be scrolled to.
  await page.setViewportSize({ width: 390, height: 844 });
  const frame = page.getByRole('region', { name: 'Versions' });
  await expect.poll(() => frame.evaluate((one) => one.scrollWidth - one.clientWidth)).toBe(0);
  await frame
    .getByRole('button', { name: /version 2/ })
    .first()
    .waitFor();
  await page.setViewportSize({ width: 1280, height: 800 });
});

it('removes a version and a name, and brings both back', async () => {
  const { page } = rig;
  await page.getByRole('button', { name: 'Remove version 2' }).click();
  await rig.confirm('Remove');
  await page.getByRole('row', { name: /^2 / }).waitFor({ state: 'detached' });
  await page.evaluate("location.hash = '#/adapters/drops/best'");
  await page.getByRole('button', { name: 'Remove the alias' }).click();
  await rig.confirm('Remove it');
  await page.evaluate("location.hash = '#/adapters/drops/first'");
  await page.getByRole('button', { name: 'Remove', exact: true }).click();
  await rig.look('remove');
  await rig.confirm('Remove');
  await page.getByText('drops/first was removed.').waitFor();
  await page.getByText('Removed recently (2)').click();
  await rig.look('removed');
  await page.getByRole('button', { name: `Restore ${NAME}@2` }).click();
  await rig.confirm('Restore');
  await page.getByRole('button', { name: 'Restore', exact: true }).first().click();
  await rig.confirm('Restore');
  await page.getByRole('region', { name: 'Chosen adapter' }).getByText('Version 1 is live.').waitFor();
  expect(rig.complaints).toEqual([]);
});
