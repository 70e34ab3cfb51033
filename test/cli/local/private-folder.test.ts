import { chmodSync, mkdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { makePrivateFolder, makePrivately } from '../../../cli/local/private-files.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-private-'));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true, force: true });
});

const modeOf = (...names: string[]): number => statSync(path.join(folder, ...names)).mode & 0o777;

it('creates folders for their owner only', async () => {
  await makePrivateFolder(path.join(folder, '.wrangler/state'));
  expect(modeOf('.wrangler')).toBe(0o700);
  expect(modeOf('.wrangler/state')).toBe(0o700);
});

it('narrows folders with wider rights, recursively if asked, but not through links', async () => {
  const state = path.join(folder, 'state');
  mkdirSync(path.join(state, 'v3/kv'), { recursive: true });
  mkdirSync(path.join(folder, 'elsewhere'));
  writeFileSync(path.join(state, 'v3/kv/blob'), 'weights');
  symlinkSync(path.join(folder, 'elsewhere'), path.join(state, 'link'));
  for (const name of ['state', 'state/v3', 'state/v3/kv', 'elsewhere'])
    chmodSync(path.join(folder, name), 0o755);
  chmodSync(path.join(state, 'v3/kv/blob'), 0o644);
  await makePrivateFolder(state);
  expect(['', 'v3'].map((name) => modeOf('state', name))).toEqual([0o700, 0o755]);
  chmodSync(state, 0o755);
  await makePrivateFolder(state, { contents: true });
  expect(['', 'v3', 'v3/kv'].map((name) => modeOf('state', name))).toEqual([0o700, 0o700, 0o700]);
  expect(modeOf('state/v3/kv/blob')).toBe(0o600);
  expect(modeOf('elsewhere')).toBe(0o755);
});

it('refuses a folder of another user', async () => {
  vi.spyOn(process, 'getuid').mockReturnValue(statSync(folder).uid + 1);
  await expect(makePrivateFolder(folder)).rejects.toMatchObject({
    code: 'folder_not_yours',
    message: expect.stringContaining('belongs to another user'),
  });
});

it('files created meanwhile belong to their owner only; afterwards the umask is restored', async () => {
  const before = process.umask();
  await Promise.all([
    makePrivately(async () => undefined),
    makePrivately(async () => {
      await new Promise((resolve) => setImmediate(resolve));
      writeFileSync(path.join(folder, 'a'), '');
    }),
  ]);
  expect(modeOf('a')).toBe(0o600);
  await expect(makePrivately(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(process.umask()).toBe(before);
});
