import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import path from 'node:path';
import * as source from '../../adapters/index.ts';
import { buildPackage, bundleWithPackage, ROOT, type BuiltPackage } from '../library/build-package.ts';
import { EXAMPLE_FILES } from '../library/example-files.ts';
import { runScenario } from '../library/scenario.ts';

/** A worker that runs the scenario on the files it is sent: four parts, name by name. */
const WORKER = `
import * as library from 'graft-lora/adapters';
import { runScenario } from ${JSON.stringify(path.join(ROOT, 'test/library/scenario.ts'))};
export default {
  async fetch(request) {
    const form = await request.formData();
    const files = {};
    for (const name of ['dr-lee', 'intent-v1'])
      files[name] = {
        weights: new Uint8Array(await form.get(name + '/weights').arrayBuffer()),
        configJson: form.get(name + '/config'),
      };
    return Response.json(await runScenario(library, files));
  },
};`;

let built: BuiltPackage | undefined;
let workerd: Miniflare | undefined;
beforeAll(async () => {
  built = await buildPackage();
  const { text } = await bundleWithPackage(built, WORKER);
  workerd = new Miniflare({
    cf: false,
    // No compatibility flags: nothing of Node is there.
    compatibilityDate: '2025-05-01',
    modules: [{ type: 'ESModule', path: 'index.js', contents: text }],
  });
  await workerd.ready;
});
afterAll(async () => {
  await workerd?.dispose();
  await built?.remove();
});

it('gives the same digests in workerd as in Node', async () => {
  const form = new FormData();
  for (const [name, { weights, configJson }] of Object.entries(EXAMPLE_FILES)) {
    form.set(`${name}/weights`, new Blob([new Uint8Array(weights)]), 'weights');
    form.set(`${name}/config`, configJson);
  }
  const response = await fetch(await workerd!.ready, { method: 'POST', body: form });
  const text = await response.text();
  expect(response.status, text).toBe(200);
  expect(JSON.parse(text)).toEqual(await runScenario(source, EXAMPLE_FILES));
});
