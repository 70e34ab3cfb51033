import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LOOPBACK, needFreePort } from '../../../cli/local/ports.ts';
import { takeStartLock } from '../../../cli/local/graft-folder.ts';

describe('takeStartLock', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'graft-lock-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('is taken, released and taken again', async () => {
    const release = await takeStartLock(folder);
    expect(await readFile(path.join(folder, 'dev.pid'), 'utf8')).toBe(String(process.pid));
    release();
    expect(await readdir(folder)).toEqual([]);
    (await takeStartLock(folder))();
  });

  it("replaces a dead process's lock", async () => {
    // Above the largest process id that Linux and macOS give.
    await writeFile(path.join(folder, 'dev.pid'), '4194305');
    (await takeStartLock(folder))();
    expect(await readdir(folder)).toEqual([]);
  });
});

/** A process that takes the lock when it is told to, and keeps it until its input ends. */
const TAKER = `
  import { takeStartLock } from './start-lock.mjs';
  process.stdin.once('data', async () => {
    const said = await takeStartLock(process.argv[2]).then(() => 'taken', ({ code }) => code);
    process.stdout.write(said);
  });
  process.stdin.on('end', () => process.exit());
  process.stdout.write('ready ');`;

describe('takeStartLock of several at once', () => {
  let folder: string;
  beforeEach(async () => {
    // In the name of each process, by which a lock's owner is known.
    folder = await mkdtemp(path.join(os.tmpdir(), 'graft-lock-'));
    await build({
      entryPoints: [fileURLToPath(new URL('../../../cli/local/graft-folder.ts', import.meta.url))],
      ...{ bundle: true, format: 'esm', platform: 'node', logLevel: 'error' },
      outfile: path.join(folder, 'start-lock.mjs'),
    });
    await writeFile(path.join(folder, 'taker.mjs'), TAKER);
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const startTaker = (locks: string) => {
    const child = spawn(process.execPath, [path.join(folder, 'taker.mjs'), locks]);
    let said = '';
    const heard = (pattern: RegExp) =>
      new Promise<string>((resolve) => {
        const look = () => void (pattern.test(said) && resolve(said));
        child.stdout.on('data', look);
        look();
      });
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    return {
      child,
      ready: heard(/ready/),
      done: heard(/ready (taken|already)/),
      ended: once(child, 'close'),
    };
  };

  it.each([
    ['a dead one’s', '4194305'],
    ['nobody’s', null],
  ])('lets only one of them have %s', async (_, left) => {
    for (let round = 0; round < 4; round += 1) {
      const locks = await mkdtemp(path.join(folder, 'locks-'));
      if (left !== null) await writeFile(path.join(locks, 'dev.pid'), left);
      const takers = Array.from({ length: 4 }, () => startTaker(locks));
      await Promise.all(takers.map(({ ready }) => ready));
      for (const { child } of takers) child.stdin.write('go');
      const said = await Promise.all(takers.map(({ done }) => done));
      expect(said.filter((one) => one === 'ready taken')).toHaveLength(1);
      expect(await readdir(locks)).toEqual(['dev.pid']);
      for (const { child } of takers) child.stdin.end();
      await Promise.all(takers.map(({ ended }) => ended));
    }
  });
});

describe('needFreePort', () => {
  it('names the flag if the port is taken', async () => {
    const server = net.createServer();
    await new Promise<void>((resolve) => server.listen(0, LOOPBACK, resolve));
    const { port } = server.address() as net.AddressInfo;
    await expect(needFreePort({ port, what: 'edge', flag: '--port' })).rejects.toMatchObject({
      code: 'port_taken',
      message: expect.stringContaining('--port <port>') as string,
    });
    await new Promise((resolve) => server.close(resolve));
    expect(await needFreePort({ port, what: 'edge', flag: '--port' })).toBe(port);
    expect(await needFreePort({ port: 0, what: 'edge', flag: '--port' })).toBeGreaterThan(0);
  });
});
