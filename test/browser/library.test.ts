import path from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import * as source from '../../adapters/index.ts';
import { buildPackage, bundleWithPackage, ROOT, type BuiltPackage } from '../library/build-package.ts';
import { EXAMPLE_FILES } from '../library/example-files.ts';
import { runScenario } from '../library/scenario.ts';
import { startChromium } from './chromium.ts';
import { startPageServer, type PageFile, type PageServer } from './page-server.ts';

const PAGE =
  '<!doctype html><meta charset="utf-8"><title>graft</title><script type="module" src="/page.js"></script>';

/**
 * The page's script: leaves what happened in the document's title, as JSON. Unless told not to, zod tries once whether
 * it may compile code; under a strict policy that fails harmlessly, but the browser reports it.
 */
const SCRIPT = `
import { config } from 'zod';
import { runScenario } from ${JSON.stringify(path.join(ROOT, 'test/library/scenario.ts'))};
const load = async (name) => ({
  weights: new Uint8Array(await (await fetch('/' + name + '/weights')).arrayBuffer()),
  configJson: await (await fetch('/' + name + '/config')).text(),
});
try {
  config({ jitless: true });
  const library = await import('graft-lora/adapters');
  const files = { 'dr-lee': await load('dr-lee'), 'intent-v1': await load('intent-v1') };
  document.title = JSON.stringify(await runScenario(library, files));
} catch (error) {
  document.title = JSON.stringify({ error: String(error) });
}`;

let browser: Browser | undefined;
let built: BuiltPackage | undefined;
let server: PageServer | undefined;
beforeAll(async () => {
  browser = await startChromium();
  built = await buildPackage();
  const { text } = await bundleWithPackage(built, SCRIPT);
  const files = new Map<string, PageFile>([
    ['/', { type: 'text/html', body: PAGE }],
    ['/page.js', { type: 'text/javascript', body: text }],
    ...Object.entries(EXAMPLE_FILES).flatMap(([name, { weights, configJson }]): [string, PageFile][] => [
      [`/${name}/weights`, { type: 'application/octet-stream', body: weights }],
      [`/${name}/config`, { type: 'application/json', body: configJson }],
    ]),
  ]);
  server = await startPageServer(files);
});
afterAll(async () => {
  await browser?.close();
  await server?.stop();
  await built?.remove();
});

it('gives the same digests in a browser as in Node, under a strict content policy', async () => {
  const page = await browser!.newPage();
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => complaints.push(message.text()));
  await page.goto(server!.url);
  await expect.poll(() => page.title()).toMatch(/^\{/);
  expect(JSON.parse(await page.title())).toEqual(await runScenario(source, EXAMPLE_FILES));
  expect(complaints).toEqual([]);
});
