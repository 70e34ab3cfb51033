/** How `graft edge` starts: with variables that the worker does not take, and when it is killed meanwhile. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { needFreePort } from '../../cli/local/ports.ts';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runGraft, startGraft } from './graft-process.ts';

let folder: string;
const FLAGS = ['edge', '--port', '0', '--secrets', 'made', '--origin', 'o1=http://127.0.0.1:9'];
const edge = (...args: string[]) => runGraft([...FLAGS, ...args], { cwd: folder });

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-e2e-'));
  expect((await runGraft(['secrets', 'made'], { cwd: folder })).code).toBe(0);
});
afterAll(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));

const hasIpv6 = Object.values(os.networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === '::1'),
);

it.skipIf(!hasIpv6)('tells an address of IPv6 as one that can be asked', async () => {
  const started = startGraft([...FLAGS, '--host', '::1', '--json'], { cwd: folder });
  try {
    const { url } = JSON.parse((await started.sees(/^\{.*\}$/m))[0]) as { url: string };
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    const again = await edge('--host', '::1', '--port', new URL(url).port, '--folder', 'other');
    expect([again.code, again.stderr]).toEqual([1, expect.stringContaining('for the edge is taken')]);
  } finally {
    started.child.kill('SIGTERM');
    expect((await started.finished).code).toBe(0);
  }
});

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

it('takes workerd along when it is killed in the moment in which that begins to listen', async () => {
  const port = await needFreePort({ port: 0, what: 'edge', flag: '--port' });
  const started = startGraft([...FLAGS, '--port', String(port), '--folder', 'killed'], { cwd: folder });
  while (!(await answers(port))) await new Promise(setImmediate);
  started.child.kill('SIGKILL');
  await expect.poll(() => answers(port)).toBe(false);
});

it('ends when a variable is wrong, and names it', async () => {
  const { code, stdout, stderr } = await edge('--var', 'LOG_SAMPLE=7');
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toMatch(/LOG_SAMPLE: must be a number from 0 to 1/);
  expect(stderr).toMatch(/error: The edge answers 500: a variable or a secret is wrong/);
});

it('ends when a secret is wrong, and does not say it', async () => {
  const file = path.join(folder, 'made/worker.json');
  const secrets = JSON.parse(await readFile(file, 'utf8')) as Record<string, string>;
  await writeFile(file, JSON.stringify({ ...secrets, GRAFT_MAC_KEY: 'c2hvcnQ=' }));
  const { code, stderr } = await edge();
  expect(code).toBe(2);
  expect(stderr).toContain('GRAFT_MAC_KEY');
  expect(stderr).not.toContain('c2hvcnQ');
});

it('takes no origin and no default base that the worker would not', async () => {
  const ftp = await edge('--origin', 'o2=ftp://o2.example.com');
  expect([ftp.code, ftp.stderr]).toEqual([
    2,
    expect.stringContaining('--origin o2=ftp://o2.example.com: use'),
  ]);
  const other = await edge('--var', 'DEFAULT_BASE=llama');
  expect([other.code, other.stderr]).toEqual([2, expect.stringContaining('DEFAULT_BASE is llama')]);
});
