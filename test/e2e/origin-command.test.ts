/** `graft origin` and the process that it starts: how the two end. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { writeTinyBase } from '../fixtures/tiny-base.ts';
import { runGraft, startGraft, type GraftProcess } from './graft-process.ts';

let folder: string;
let origin: GraftProcess;

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-e2e-'));
  writeTinyBase(path.join(folder, 'tiny-base'));
  expect((await runGraft(['secrets', 'made'], { cwd: folder })).code).toBe(0);
});
afterEach(() => origin.killGroup());
afterAll(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));

/** @param further flags of the origin's own. @returns its port, when it is ready. */
const start = (...further: string[]): Promise<number> => startWith([], ...further);

/** @param given flags of the command. */
async function startWith(given: readonly string[], ...further: string[]): Promise<number> {
  const flags = ['--origin-id', 'o1', '--keys', 'made/origin.env', '--port', '0', '--base', 'tiny-base'];
  origin = startGraft(['origin', ...flags, ...given, '--', ...further], {
    cwd: folder,
    env: { GRAFT_CACHE: path.join(folder, 'cache') },
  });
  const [line] = await origin.sees(/^\{"event":"ready".*\}$/m);
  return Number(new URL((JSON.parse(line) as { url: string }).url).port);
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

it('drains when Ctrl-C reaches the whole group, though nothing types at it', async () => {
  const port = await start('--grace-ms', '500');
  process.kill(-(origin.child.pid as number), 'SIGINT');
  const { code, stderr } = await origin.finished;
  expect([code, stderr]).toEqual([0, expect.stringContaining('"event":"ended"')]);
  expect(await answers(port)).toBe(false);
});

it('keeps jobs with --train, and removes them without', async () => {
  const jobs = path.join(folder, 'cache/jobs-o1');
  await startWith(['--train']);
  expect(existsSync(jobs)).toBe(true);
  await origin.killGroup();
  await start();
  expect(existsSync(jobs)).toBe(false);
});

it('takes the origin along when it is killed, so that the next one has its port', async () => {
  const port = await start();
  origin.child.kill('SIGKILL');
  await expect.poll(() => answers(port)).toBe(false);
});
