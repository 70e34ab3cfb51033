/** Both packages as tarballs, installed by npm into empty folders with scripts allowed; needs npm's registry. */
import { execFile } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { makePackages } from '../../bin/pack.mjs';
import { ONNXRUNTIME } from '../../cli/local/native-runtime.ts';
import packageJson from '../../package.json' with { type: 'json' };
import { runGraft, startGraft } from '../e2e/graft-process.ts';
import { writeTinyBase } from '../fixtures/tiny-base.ts';
import { ROOT } from '../library/build-package.ts';

/** Of the command line and the toolkit, installed: all files of it and its dependencies. */
const MOST_LIGHT_BYTES = 30e6;
const Local = z.object({ url: z.string(), key: z.string() });
const Answer = z.object({
  choices: z.array(z.object({ message: z.object({ content: z.string() }) })),
  usage: z.object({ completion_tokens: z.int() }),
});

let work: string;
let tarballs: { light: string; stack: string };
beforeAll(async () => {
  work = await mkdtemp(path.join(tmpdir(), 'graft-packed-'));
  tarballs = await makePackages(path.join(work, 'made'));
});
afterAll(() => rm(work, { recursive: true, force: true, maxRetries: 5 }));

/** The checkout's .npmrc does not hold there, but variables that npm set for this script would. */
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^npm_config_ignore_scripts$/i.test(name)),
);
async function install(name: string, ...tarball: string[]): Promise<string> {
  const folder = path.join(work, name);
  mkdirSync(folder);
  await writeFile(path.join(folder, 'package.json'), '{"private":true,"type":"module"}');
  const flags = ['--ignore-scripts=false', '--prefer-offline', '--no-audit', '--no-fund'];
  await promisify(execFile)('npm', ['install', ...flags, ...tarball], { cwd: folder, env });
  return folder;
}

const filesBelow = async (folder: string) => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => {
        const file = path.join(entry.parentPath, entry.name);
        return { file, bytes: (await stat(file)).size };
      }),
  );
};

it('command line and toolkit are small, have no native parts, and run', async () => {
  const folder = await install('light', tarballs.light);
  const files = await filesBelow(path.join(folder, 'node_modules'));
  expect(files.filter(({ file }) => /\.(node|so|dylib|dll|exe)$/.test(file))).toEqual([]);
  expect(files.reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThan(MOST_LIGHT_BYTES);
  const npx = await promisify(execFile)('npx', ['graft', '--version'], { cwd: folder, env });
  expect(npx.stdout).toBe(`${packageJson.version}\n`);
  await writeFile(
    path.join(folder, 'use.js'),
    `import { chainId } from 'graft-lora/protocol';
     import { readAdapter } from 'graft-lora/adapters';
     console.log(await chainId([]), typeof readAdapter, import.meta.resolve('graft-lora/browser'));`,
  );
  const used = await promisify(execFile)(process.execPath, ['use.js'], { cwd: folder });
  expect(used.stdout).toMatch(/^\S+ function file:.*dist\/browser\/index\.js\n$/);
});

it('beside it, origin and edge start with one command and answer', async () => {
  const folder = await install('both', tarballs.light, tarballs.stack);
  writeTinyBase(path.join(folder, 'tiny'));
  // What `graft dev` would fetch, 100 MB; test/cli/local/native-runtime.test.ts has how it does.
  const runtimes = path.join(folder, 'cache/onnxruntime');
  mkdirSync(runtimes, { recursive: true });
  symlinkSync(
    path.join(ROOT, 'node_modules/onnxruntime-node'),
    path.join(runtimes, `${ONNXRUNTIME.version}-${process.platform}-${process.arch}`),
  );
  // Whichever of the two npm made `graft` of: the light one finds the other.
  const program = path.join(folder, 'node_modules/graft-lora/bin/graft.mjs');
  const place = { cwd: folder, program, env: { GRAFT_CACHE: path.join(folder, 'cache') } };
  expect(await runGraft(['--help'], place)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('dev') as string,
  });
  const dev = startGraft(
    ['dev', '--base', 'tiny', '--no-examples', '--port', '0', '--origin-port', '0', '--json'],
    place,
  );
  try {
    const local = Local.parse(JSON.parse((await dev.sees(/^\{.*\}$/m))[0]));
    const response = await fetch(`${local.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${local.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'tiny', max_tokens: 4, messages: [{ role: 'user', content: 'hi' }] }),
    });
    expect(response.status).toBe(200);
    expect(Answer.parse(await response.json()).usage.completion_tokens).toBeGreaterThan(0);
    expect((await fetch(`${local.url}/dashboard`)).status).toBe(200);
  } finally {
    dev.child.kill('SIGINT');
    await dev.finished;
  }
});
