import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LOOPBACK, needFreePort } from '../../../cli/local/ports.ts';
import { takeStartLock } from '../../../cli/local/start-lock.ts';

describe('takeStartLock', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'graft-lock-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('is taken, given back and taken again', async () => {
    const release = await takeStartLock(folder);
    expect(await readFile(path.join(folder, 'dev.pid'), 'utf8')).toBe(String(process.pid));
    release();
    expect(await readdir(folder)).toEqual([]);
    (await takeStartLock(folder))();
  });

  it('takes over what a dead process left', async () => {
    // Above the largest process id that Linux and macOS give.
    await writeFile(path.join(folder, 'dev.pid'), '4194305');
    (await takeStartLock(folder))();
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('needFreePort', () => {
  it('names the flag when the port is taken', async () => {
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
