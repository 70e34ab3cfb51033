/** `graft dev` with ports that cannot be what they are asked to be: said before anything is started. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeTinyBase } from '../fixtures/tiny-base.ts';
import { runGraft } from './graft-process.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-e2e-'));
  writeTinyBase(path.join(folder, 'tiny-base'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it.each([
  ['the edge’s for the origin', ['--port', '28788', '--origin-port', '28788'], '28788'],
  [
    'the edge’s for the origin of a further base',
    ['--port', '28789', '--origin-port', '28788', '--also-base', 'tiny-base'],
    '28789',
  ],
  [
    'above all that there are',
    ['--port', '0', '--origin-port', '65535', '--also-base', 'tiny-base'],
    '65536',
  ],
])('refuses %s', async (_what, flags, port) => {
  const { code, stderr } = await runGraft(['dev', ...flags, '--no-examples', '--base', 'tiny-base'], {
    cwd: folder,
    env: { GRAFT_CACHE: path.join(folder, 'cache') },
  });
  expect([code, stderr]).toEqual([
    1,
    expect.stringMatching(/^starting .*\nerror: .*\. Choose another with --origin-port <port>\.\n$/),
  ]);
  expect(stderr).toContain(`Port ${port} for the origin`);
  // No part has said anything.
  expect(await readFile(path.join(folder, '.graft/dev.log'), 'utf8')).toBe('');
});
