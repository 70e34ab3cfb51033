import { closeSync, writeSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openLog } from '../../../cli/local/open-log.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-log-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

it('appends to a file of its owner alone', async () => {
  const file = path.join(folder, 'dev.log');
  for (const line of ['one\n', 'two\n']) {
    const log = openLog(file);
    writeSync(log, line);
    closeSync(log);
  }
  expect(await readFile(file, 'utf8')).toBe('one\ntwo\n');
  expect((await stat(file)).mode & 0o777).toBe(0o600);
});

it('does not write through a link', async () => {
  const target = path.join(folder, 'bashrc');
  await writeFile(target, 'mine');
  const file = path.join(folder, 'dev.log');
  await symlink(target, file);
  expect(() => openLog(file)).toThrow(/ELOOP/);
  expect(await readFile(target, 'utf8')).toBe('mine');
});
