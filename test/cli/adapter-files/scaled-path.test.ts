import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { parseScaledPath } from '../../../cli/commands/compose.ts';

it.each([
  ['a', 'a', 1],
  ['a/b:0.5', 'a/b', 0.5],
  ['a:-1', 'a', -1],
  ['a:.25', 'a', 0.25],
  ['a:2.', 'a', 2],
  ['a:+1e-2', 'a', 0.01],
  ['a:b:3', 'a:b', 3],
  ['C:\\adapters', 'C:\\adapters', 1],
  ['a:x', 'a:x', 1],
  ['a:', 'a:', 1],
  [':5', ':5', 1],
  ['a:0x10', 'a:0x10', 1],
])('%s is %s at scale %d', async (given, expected, scale) => {
  expect(await parseScaledPath(given)).toEqual({ path: expected, scale });
});

it.each(['a:0', 'a:-0.0', 'a:1e999'])('%s is refused', async (given) => {
  await expect(parseScaledPath(given)).rejects.toThrow(/a scale must be a number other than 0/);
});

it('accepts a file whose name ends like a scale', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'graft-scaled-'));
  try {
    const file = path.join(folder, 'a:2');
    await writeFile(file, '');
    expect(await parseScaledPath(file)).toEqual({ path: file, scale: 1 });
    expect(await parseScaledPath(`${file}:3`)).toEqual({ path: file, scale: 3 });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
