/** What `npm run packages` makes: what is in the packages, what they need, and that the light one runs by itself. */
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { makePackages } from '../../bin/pack.mjs';
import { commandNames } from '../../cli/command-list.ts';
import { ONNXRUNTIME } from '../../cli/local/native-runtime.ts';
import { runGraft } from '../e2e/graft-process.ts';
import { ROOT } from './build-package.ts';

const Manifest = z.looseObject({
  name: z.string(),
  private: z.boolean().optional(),
  bin: z.record(z.string(), z.string()),
  exports: z.record(z.string(), z.unknown()),
  dependencies: z.record(z.string(), z.string()),
});
const readJson = async (file: string): Promise<unknown> => JSON.parse(await readFile(file, 'utf8'));
const manifestOf = async (folder: string) =>
  Manifest.parse(await readJson(path.join(folder, 'package.json')));

let out: string;
let light: string;
let stack: string;
beforeAll(async () => {
  out = await mkdtemp(path.join(tmpdir(), 'graft-packages-'));
  // Vite takes seconds, and its page has tests of its own.
  const page = path.join(out, 'page');
  mkdirSync(page);
  await writeFile(path.join(page, 'index.html'), '<!doctype html>');
  await makePackages(path.join(out, 'made'), { page, tarballs: false });
  light = path.join(out, 'made/graft-lora');
  stack = path.join(out, 'made/graft-lora-origin');
});
afterAll(() => rm(out, { recursive: true, force: true }));

const filesOf = async (folder: string): Promise<string[]> =>
  (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)).replaceAll('\\', '/'));
const folderOf = (file: string): string => file.split('/').slice(0, -1).join('/');
const topsOf = (files: readonly string[], depth: number) =>
  [...new Set(files.map((file) => folderOf(file).split('/').slice(0, depth).join('/')))].sort();

describe('graft-lora', () => {
  it('is the command line and the library, compiled', async () => {
    const files = await filesOf(light);
    expect(topsOf(files, 2)).toEqual([
      '',
      'bin',
      'dist/adapters',
      'dist/browser',
      'dist/cli',
      'dist/protocol',
    ]);
    expect(files.filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'))).toEqual([]);
    for (const text of ['LICENSE', 'NOTICE', 'README.md', 'CHANGELOG.md']) expect(files).toContain(text);
  });

  it('leaves to another one what only pages fetch', async () => {
    expect((await filesOf(light)).filter((file) => file.endsWith('.wasm'))).toEqual([]);
    const runtime = path.join(out, 'made/graft-lora-runtime');
    expect((await filesOf(runtime)).sort()).toEqual([
      'LICENSE',
      'NOTICE',
      'graft-grammar.js',
      'graft-training.js',
      'ort-wasm-simd-threaded.jspi.mjs',
      'ort-wasm-simd-threaded.jspi.wasm',
      'ort-wasm-simd-threaded.mjs',
      'ort-wasm-simd-threaded.wasm',
      'package.json',
    ]);
    const { version } = z
      .looseObject({ version: z.string() })
      .parse(await readJson(path.join(ROOT, 'package.json')));
    const manifest = z.looseObject({}).parse(await readJson(path.join(runtime, 'package.json')));
    expect(manifest).toMatchObject({ name: 'graft-lora-runtime', version, exports: { './*': './*' } });
    expect(manifest).not.toHaveProperty('bin');
  });

  it('may be published, and its imports have files', async () => {
    const manifest = await manifestOf(light);
    expect(manifest).toMatchObject({ name: 'graft-lora', bin: { graft: 'bin/graft.mjs' } });
    expect(manifest.private).toBeUndefined();
    const targets = JSON.stringify(manifest.exports).match(/\.\/(?:dist|package)[^"]+/g) ?? [];
    expect(targets.length).toBeGreaterThan(6);
    expect(targets.filter((target) => !existsSync(path.join(light, target)))).toEqual([]);
  });

  it('needs no package with native parts, and none of the stack', async () => {
    expect(Object.keys((await manifestOf(light)).dependencies).sort()).toEqual([
      '@huggingface/hub',
      'ansis',
      'aws4fetch',
      'citty',
      'eventsource-parser',
      'fflate',
      'ml-matrix',
      'string-width',
      'zod',
    ]);
  });

  it('runs with its own dependencies alone, and says where the stack is', async () => {
    const modules = path.join(light, 'node_modules');
    mkdirSync(modules);
    for (const name of Object.keys((await manifestOf(light)).dependencies)) {
      mkdirSync(path.dirname(path.join(modules, name)), { recursive: true });
      symlinkSync(path.join(ROOT, 'node_modules', name), path.join(modules, name), 'dir');
    }
    const graft = (...args: string[]) =>
      runGraft(args, { cwd: out, program: path.join(light, 'bin/graft.mjs') });
    const verbs = ['base', 'compare', 'dev', 'experiment', 'origin', 'publish', 'pull'];
    expect(commandNames()).toEqual(expect.arrayContaining(verbs));
    const helps = await Promise.all(verbs.map((name) => graft('help', name)));
    expect(helps.filter(({ code }) => code !== 0).map(({ stderr }) => stderr)).toEqual([]);
    for (const line of [['deploy'], ['dev'], ['edge'], ['origin'], ['pull'], ['base', 'export', '--web']]) {
      const { code, stderr } = await graft(...line, '--json');
      expect([line, code, JSON.parse(stderr)]).toEqual([
        line,
        2,
        {
          error: {
            code: 'stack_missing',
            message: expect.stringContaining('npx graft-lora-origin@') as string,
          },
        },
      ]);
    }
  });
});

describe('graft-lora-origin', () => {
  it('has what origin and edge need at run time, compiled', async () => {
    const files = await filesOf(stack);
    expect(topsOf(files, 2)).toEqual([
      ...['', 'bin', 'cli/local', 'dist/cli', 'dist/origin', 'dist/page', 'dist/worker'],
      ...['examples/adapters', 'migrations'],
    ]);
    expect(files.filter((file) => file.endsWith('.ts'))).toEqual([]);
    expect(files.filter((file) => file.startsWith('migrations/')).length).toBe(
      (await readdir(path.join(ROOT, 'migrations'))).length,
    );
  });

  it('leaves out what would reach beyond the registry at its installation, and what is compiled in', async () => {
    const { dependencies, name } = await manifestOf(stack);
    expect(name).toBe('graft-lora-origin');
    expect(dependencies).toMatchObject({ wrangler: expect.any(String), koffi: expect.any(String) });
    for (const absent of ['onnxruntime-node', 'onnxruntime-web', 'tsx', 'esbuild'])
      expect(dependencies).not.toHaveProperty(absent);
    const { version } = z
      .object({ version: z.string() })
      .parse(await readJson(path.join(stack, 'dist/origin/onnxruntime-web/package.json')));
    expect(version).toBe(ONNXRUNTIME.version);
  });

  it('fetches the runtime that the lock has', async () => {
    const { packages } = z
      .object({ packages: z.record(z.string(), z.looseObject({ integrity: z.string().optional() })) })
      .parse(await readJson(path.join(ROOT, 'package-lock.json')));
    expect(packages['node_modules/onnxruntime-node']).toMatchObject({
      version: ONNXRUNTIME.version,
      integrity: ONNXRUNTIME.integrity,
    });
  });
});
