import { chmodSync, closeSync, readFileSync, statSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { MAX_LINE, openDevLog, openLog } from '../../../cli/local/graft-folder.ts';

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-log-'));
  file = path.join(folder, 'dev.log');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const lines = (of: string): string[] => readFileSync(of, 'utf8').trimEnd().split('\n');

it('keeps two files at most, each within its bound, and the newest lines', async () => {
  const log = openDevLog(file, 1_000);
  for (let i = 0; i < 500; i++) log.write('edge', `line ${i}`);
  log.close();
  expect(await readdir(folder)).toEqual(['dev.log', 'dev.log.1']);
  for (const name of [file, `${file}.1`]) {
    expect(statSync(name).size).toBeLessThanOrEqual(1_000);
    expect(statSync(name).mode & 0o777).toBe(0o600);
  }
  expect(lines(file).at(-1)).toMatch(/^\d{4}-\d\d-\d\dT\S+Z edge line 499$/);
  expect(lines(`${file}.1`).at(-1)).toContain(`line ${499 - lines(file).length}`);
});

it('counts existing content, and removes wider rights', () => {
  writeFileSync(file, 'x'.repeat(990));
  chmodSync(file, 0o644);
  const log = openDevLog(file, 1_000);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  log.write('edge', 'a');
  log.close();
  expect(readFileSync(`${file}.1`, 'utf8')).toBe('x'.repeat(990));
  expect(lines(file)).toHaveLength(1);
});

it('truncates a line that is too long', () => {
  const log = openDevLog(file);
  log.write('edge', 'x'.repeat(MAX_LINE + 1));
  log.close();
  expect(lines(file)[0]).toMatch(/x …$/);
  expect(statSync(file).size).toBeLessThan(MAX_LINE + 100);
});

it('does not write through a link, and continues when one is put in its place', () => {
  const target = path.join(folder, 'bashrc');
  writeFileSync(target, 'mine');
  symlinkSync(target, file);
  expect(() => openDevLog(file)).toThrow(/ELOOP/);
  const other = path.join(folder, 'other.log');
  symlinkSync(target, `${other}.1`);
  const log = openDevLog(other, 100);
  for (let i = 0; i < 20; i++) log.write('edge', 'a line of some length');
  log.close();
  expect(readFileSync(target, 'utf8')).toBe('mine');
});

it('appends to a file for its owner only', () => {
  for (const line of ['one\n', 'two\n']) {
    const log = openLog(file);
    writeSync(log, line);
    closeSync(log);
  }
  expect(readFileSync(file, 'utf8')).toBe('one\ntwo\n');
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

it('does not write through a link', () => {
  const target = path.join(folder, 'bashrc');
  writeFileSync(target, 'mine');
  symlinkSync(target, file);
  expect(() => openLog(file)).toThrow(/ELOOP/);
  expect(readFileSync(target, 'utf8')).toBe('mine');
});
