import { mkdir, mkdtemp, readdir, readFile, realpath, rm, utimes, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildPage } from '../../../cli/local/build-page.ts';

let root: string;
let notes: string[];
beforeEach(async () => {
  root = await realpath(await mkdtemp(path.join(os.tmpdir(), 'graft-page-')));
  notes = [];
  await write('package.json', '{}');
});
afterEach(() => rm(root, { recursive: true, force: true }));

const write = async (file: string, text = '', at?: number): Promise<void> => {
  const target = path.join(root, file);
  await mkdir(path.dirname(target), { recursive: true });
  await writeFile(target, text);
  if (at !== undefined) await utimes(target, at, at);
};
/** All sources and their folders, as if they had been changed then, unix seconds. */
const sources = async (at: number): Promise<void> => {
  for (const file of [
    'dashboard/views/a.tsx',
    'protocol/index.ts',
    'browser/index.ts',
    'package-lock.json',
    'vite.dashboard.config.ts',
  ])
    await write(file, '', at);
  for (const folder of ['dashboard/views', 'dashboard', 'protocol', 'browser'])
    await utimes(path.join(root, folder), at, at);
};
const PAGE = 'dist/page/dashboard/index.html';
/** In the place of vite, which takes seconds: what matters is how it is called and what it leaves. */
const installVite = async (script: string): Promise<void> => {
  await write('node_modules/vite/package.json', '{"name":"vite","version":"0.0.0","type":"module"}');
  await write('node_modules/vite/bin/vite.js', script);
};
const BUILDS = `
  import { mkdirSync, writeFileSync } from 'node:fs';
  const folder = process.argv[process.argv.indexOf('--outDir') + 1];
  mkdirSync(folder, { recursive: true });
  writeFileSync(folder + '/index.html', 'new ' + process.argv[2] + ' in ' + process.cwd());
`;
const FAILS = `console.error('no such file: x.tsx'); process.exit(1);`;

const build = (more: { signal?: AbortSignal } = {}) =>
  buildPage({ root, output: { note: (line) => void notes.push(line) }, ...more });
const pageText = () => readFile(path.join(root, PAGE), 'utf8');
const folder = () => path.join(root, 'dist/page');

describe('a page that is there', () => {
  it('serves the page as it is when nothing is newer', async () => {
    await sources(1_000);
    await write(PAGE, 'old', 1_000);
    await installVite(FAILS);
    expect(await build()).toBe(folder());
    expect([await pageText(), notes]).toEqual(['old', []]);
  });

  it('serves the page as it is without sources, as in a package', async () => {
    await write(PAGE, 'old', 1_000);
    await write('protocol/index.ts', '', 2_000);
    await installVite(FAILS);
    expect(await build()).toBe(folder());
    expect([await pageText(), notes]).toEqual(['old', []]);
  });

  it.each([
    'dashboard/views/a.tsx',
    'protocol/index.ts',
    'browser/index.ts',
    'package-lock.json',
    'vite.dashboard.config.ts',
    // A file was taken out of it.
    'dashboard/views',
  ])('rebuilds it when %s is newer', async (changed) => {
    await sources(1_000);
    await write(PAGE, 'old', 1_500);
    await utimes(path.join(root, changed), 2_000, 2_000);
    await installVite(BUILDS);
    expect(await build()).toBe(folder());
    expect(await pageText()).toBe(`new build in ${root}`);
    expect(notes).toEqual(['building the console', expect.stringMatching(/^built the console in [\d.]+ s$/)]);
    // Nothing is left of the building.
    expect(await readdir(path.join(root, 'dist'))).toEqual(['page']);
    expect(await readdir(folder())).toEqual(['dashboard']);
    // The next time there is nothing to do.
    await build();
    expect(notes).toHaveLength(2);
  });
});

describe('without a page', () => {
  it('builds the page', async () => {
    await sources(1_000);
    await installVite(BUILDS);
    expect(await build()).toBe(folder());
    expect(await pageText()).toContain('new build');
  });

  it('reports why there is none', async () => {
    await sources(1_000);
    expect(await build()).toBeNull();
    expect(notes).toEqual([expect.stringMatching(/not built, and vite is not installed/)]);
  });
});

describe('what goes wrong', () => {
  it('keeps the old page without vite', async () => {
    await sources(2_000);
    await write(PAGE, 'old', 1_000);
    expect(await build()).toBe(folder());
    expect(await pageText()).toBe('old');
    expect(notes).toEqual([expect.stringMatching(/older than its sources, and vite is not installed/)]);
  });

  it.each([true, false])('in a build is said with its last words, a page before: %s', async (before) => {
    await sources(2_000);
    if (before) await write(PAGE, 'old', 1_000);
    await installVite(FAILS);
    expect(await build()).toBe(before ? folder() : null);
    expect(notes).toEqual([
      'building the console',
      'the console is not rebuilt: its build failed\nno such file: x.tsx',
    ]);
    expect(await readdir(path.join(root, 'dist'))).toEqual(['page']);
    if (before) expect(await pageText()).toBe('old');
  });

  it('throws when it is aborted', async () => {
    await sources(1_000);
    await installVite('setInterval(() => undefined, 1_000);');
    const stop = new AbortController();
    const built = build({ signal: stop.signal });
    stop.abort(new Error('stopped'));
    await expect(built).rejects.toThrow('stopped');
    expect(notes).toEqual(['building the console']);
  });
});
