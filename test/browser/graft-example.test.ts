/** examples/in-the-browser as it is, with its own server, and the base from the edge: both in front of a tiny base. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { freePort } from '../e2e/graft-process.ts';
import { packAdapter } from '../../adapters/index.ts';
import { TINY_ADAPTERS, writeTinyAdapter } from '../fixtures/tiny-base.ts';
import { startTestEdge, type TestEdge } from '../worker/edge-harness.ts';
import { startChromium } from './chromium.ts';
import { startGraftRig, type GraftRig } from './graft-rig.ts';

const ROOT = path.join(import.meta.dirname, '../..');
/** Of the page; the first is in use when it opens. */
const NAMES = ['medicine/cardiology/dr-lee', 'support/intent'];

let browser: Browser;
let rig: GraftRig;
let edge: TestEdge;
let server: ChildProcess;
let folder: string;
let url: string;

beforeAll(async () => {
  [browser, rig] = await Promise.all([startChromium(), startGraftRig()]);
  folder = mkdtempSync(path.join(tmpdir(), 'graft-example-'));
  // The example beside what `npm run build:browser` would have built.
  cpSync(path.join(ROOT, 'examples/in-the-browser'), path.join(folder, 'examples/in-the-browser'), {
    recursive: true,
  });
  mkdirSync(path.join(folder, 'dist'));
  symlinkSync(rig.built, path.join(folder, 'dist/browser'), 'dir');
  const page = path.join(folder, 'page');
  cpSync(rig.baseFolder, path.join(page, 'base'), { recursive: true });
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  edge = await startTestEdge({ base: rig.manifest.base, page, bindings: { CORS_ORIGINS: url } });
  for (const [i, name] of NAMES.entries()) await publish(name, Object.keys(TINY_ADAPTERS)[i]!);
  const key = await edge.makeKey({ tenant: 'default', download: true, publish: true });
  server = spawn(process.execPath, [path.join(folder, 'examples/in-the-browser/serve.mjs')], {
    env: { ...process.env, GRAFT_URL: edge.edge.url, GRAFT_PAGE_KEY: key, PORT: String(port) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(server.stdout!, 'data');
});
afterAll(async () => {
  server?.kill();
  await browser?.close();
  await edge?.stop();
  await rig?.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function publish(name: string, kind: string): Promise<void> {
  const at = path.join(folder, kind);
  writeTinyAdapter(at, TINY_ADAPTERS[kind]!);
  const files = {
    configJson: readFileSync(path.join(at, 'adapter_config.json'), 'utf8'),
    weights: new Uint8Array(readFileSync(path.join(at, 'adapter_model.safetensors'))),
  };
  const { bytes, digest } = await packAdapter({ files, baseId: rig.manifest.base.id, parentChainId: null });
  const answer = await edge.publish({ name, adapter: { bytes: Buffer.from(bytes), digest } });
  if (answer.status !== 201) throw new Error(await answer.text());
}

it('answers by name, swaps, and breaks no policy of its own', async () => {
  const page = await (await browser.newContext()).newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => complaints.push(message.text()));
  await page.goto(url);
  await expect.poll(() => page.textContent('#state')).toBe(`${NAMES[0]}@1 on tiny-base.`);
  await page.getByRole('button', { name: 'Ask' }).click();
  await expect.poll(() => page.textContent('#speed')).toMatch(/^\d+ tokens, .* [1-4] threads?\.$/);
  const first = await page.textContent('#answer');
  expect(first).not.toBe('');
  await page.getByLabel('Adapter').selectOption(NAMES[1]!);
  await expect.poll(() => page.textContent('#state')).toBe(`${NAMES[1]}@1 on tiny-base.`);
  await page.getByRole('button', { name: 'Ask' }).click();
  await expect.poll(() => page.textContent('#answer')).not.toBe(first);
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
  expect(complaints).toEqual([]);
});

it('trains on the rows of its text, draws the curve, and answers with the result', async () => {
  const page = await (await browser.newContext()).newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => complaints.push(message.text()));
  await page.goto(url);
  await page.getByRole('button', { name: 'Train' }).click();
  await expect
    .poll(() => page.textContent('#training'))
    .toMatch(/^Trained on 8 rows in \d+ s \([0-9a-f]{12}\); kept in this browser\.$/);
  // Said last: the page makes the files that it offers in between.
  await expect.poll(() => page.textContent('#state')).toBe('mine, trained here, on tiny-base.');
  expect((await page.locator('polyline.loss').getAttribute('points'))!.split(' ')).toHaveLength(20);
  await page.getByRole('button', { name: 'Ask' }).click();
  await expect.poll(() => page.textContent('#speed')).toMatch(/^\d+ tokens?, /);
  const files = page.locator('#export a');
  expect(await files.allTextContents()).toEqual([
    ...['adapter_config.json', 'adapter_model.safetensors', 'training.json'],
  ]);
  const download = page.waitForEvent('download');
  await files.nth(2).click();
  expect((await download).suggestedFilename()).toBe('training.json');
  // Another day.
  await page.reload();
  await expect.poll(() => page.textContent('#state')).toBe(`${NAMES[0]}@1 on tiny-base.`);
  await page.getByLabel('Adapter').selectOption('mine (trained here)');
  await expect.poll(() => page.textContent('#state')).toBe('mine, trained here, on tiny-base.');
  for (const times of ['once', 'and once more']) {
    await page.getByRole('button', { name: 'Publish' }).click();
    await expect
      .poll(() => page.textContent('#publication'), { message: times })
      .toBe('Staged as support/intent/mine@1. To give it to users, run: graft promote support/intent/mine');
    await page.evaluate("document.getElementById('publication').textContent = ''");
  }
  const { version } = (await (await edge.admin('/admin/versions?name=support/intent/mine')).json()) as {
    version: number | null;
  };
  expect(version).toBeNull();
  expect(complaints).toEqual([]);
});
