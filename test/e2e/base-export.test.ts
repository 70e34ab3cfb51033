/** `graft base export --web` by the real command line, of a tiny base. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebBaseManifest } from '../../protocol/browser-downloads.ts';
import { writeTinyBase } from '../fixtures/tiny-base.ts';
import { runGraft, type Finished } from './graft-process.ts';

let folder: string;
const graft = (...args: string[]): Promise<Finished> =>
  runGraft(['base', ...args], { cwd: folder, env: { GRAFT_CACHE: path.join(folder, 'cache') } });

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-export-'));
  writeTinyBase(path.join(folder, 'tiny-base'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it('writes the parts and their manifest into a folder, and says what they are', async () => {
  const { code, stdout, stderr } = await graft(
    ...[
      'export',
      '--web',
      '--base',
      'tiny-base',
      '--base-id',
      'tiny',
      '--to',
      'folder',
      '-o',
      'site/base',
      '--json',
    ],
  );
  expect([code, stderr]).toEqual([0, '']);
  const said = JSON.parse(stdout) as Record<string, unknown>;
  const text = await readFile(path.join(folder, 'site/base/base.json'), 'utf8');
  const { base, parts } = WebBaseManifest.parse(JSON.parse(text));
  expect(base).toMatchObject({ id: 'tiny', weights: 'int8', provider: 'web' });
  expect(said).toMatchObject({ id: 'tiny', digest: base.digest, weights: 'int8', parts: parts.length });
  expect((await readdir(path.join(folder, 'site/base'))).sort()).toEqual(
    [...parts.map(({ sha256 }) => `${sha256}.bin`), 'base.json'].sort(),
  );
});

it('says what is wrong before it starts anything, and why a base cannot be exported', async () => {
  for (const [args, complaint] of [
    [['export'], 'Add --web'],
    [['export', '--web', '--to', 'folder'], '--to folder needs -o <path>.'],
    [['export', '--web', '-o', 'x'], '-o needs --to folder'],
    [['export', '--web', '--to', 'r2'], '--to r2 needs --bucket <name>.'],
    [['export', '--web', '--bucket', 'x'], '--bucket needs --to r2.'],
    [['import', '--web'], "'import' is not one of export."],
  ] as const) {
    const { code, stderr } = await graft(...args);
    expect([code, stderr]).toEqual([2, expect.stringContaining(complaint)]);
  }
  const none = await graft('export', '--web', '--base', 'nowhere', '--to', 'folder', '-o', 'x');
  expect([none.code, none.stderr]).toEqual([2, expect.stringContaining('no such file or folder')]);
  const empty = await graft('export', '--web', '--base', 'site', '--to', 'folder', '-o', 'x');
  expect([empty.code, empty.stderr]).toEqual([1, expect.stringContaining('The base was not exported')]);
  expect(empty.stderr).toContain('has no config.json');
});
