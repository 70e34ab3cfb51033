/** A base that is being fetched when somebody has had enough of it. */
import { access, chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startGraft } from './graft-process.ts';
import { noTerminal, onTerminal } from './terminal.ts';

const COMMIT = 'a'.repeat(40);
/** Of a file of which the hub sends no more than the first bytes. */
const SIZE = 300_000;

let folder: string;
let hub: Server;
/** Resolves when the file is asked for. */
let stalls: Promise<void>;

beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-e2e-'));
  stalls = new Promise((resolve) => {
    hub = createServer((request, response) => {
      const url = request.url ?? '';
      const json = (body: unknown) =>
        response.setHeader('content-type', 'application/json').end(JSON.stringify(body));
      if (url.includes('/revision/'))
        return json({ id: 'tiny/base', _id: '1', sha: COMMIT, lastModified: '2026-01-01T00:00:00.000Z' });
      const lfs = { oid: 'b'.repeat(64), size: SIZE, pointerSize: 130 };
      if (url.includes('/tree/'))
        return json([{ type: 'file', path: 'model.safetensors', size: SIZE, oid: 'x', lfs }]);
      const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? 'bytes=0-') ?? [];
      const end = to === '' ? SIZE - 1 : Number(to);
      response
        .setHeader('content-range', `bytes ${String(from)}-${end}/${SIZE}`)
        .setHeader('etag', '"x"')
        .writeHead(206);
      // The first question is how large it is.
      if (end < 100) return response.end(new Uint8Array(end + 1));
      response.write(new Uint8Array(1_000));
      return resolve();
    });
  });
  await new Promise<void>((resolve) => hub.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  hub.closeAllConnections();
  hub.close();
  await rm(folder, { recursive: true, force: true });
});

const env = (more: Record<string, string> = {}) => ({
  GRAFT_CACHE: path.join(folder, 'cache'),
  HF_ENDPOINT: `http://127.0.0.1:${(hub.address() as AddressInfo).port}`,
  ...more,
});

describe('a download that is ended', () => {
  it.skipIf(noTerminal !== null)('is preceded by what is being done, and shown by a bar', async () => {
    const args = ['dev', '--port', '0', '--origin-port', '0', '--base', 'hf:tiny/base'];
    const steps = [{ see: 'starting origin and edge' }, { see: 'base tiny/base  ' }];
    const { output, stuck, code } = await onTerminal(args, {
      ...{ cwd: folder, env: env() },
      steps: [...steps, { signal: 'SIGINT' }],
    });
    expect([stuck, code]).toEqual([null, 130]);
    expect(output).toMatch(/^starting origin and edge; their log is .graft\/dev.log\n/);
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('ends graft dev by %s, and leaves no lock', async (signal) => {
    const ports = ['--port', '0', '--origin-port', '0'];
    const dev = startGraft(['dev', ...ports, '--base', 'hf:tiny/base'], { cwd: folder, env: env() });
    try {
      await stalls;
      dev.child.kill(signal);
      expect(await dev.finished).toMatchObject({ code: 130, stdout: '' });
    } finally {
      await dev.killGroup();
    }
    await expect(access(path.join(folder, '.graft/dev.pid'))).rejects.toThrow();
  });

  it('finds no address of a stack that was killed before, since nothing is there yet', async () => {
    await mkdir(path.join(folder, '.graft'), { mode: 0o700 });
    const local = path.join(folder, '.graft/local.json');
    await writeFile(local, '{"url":"http://127.0.0.1:9"}');
    const dev = startGraft(['dev', '--port', '0', '--origin-port', '0', '--base', 'hf:tiny/base'], {
      cwd: folder,
      env: env(),
    });
    try {
      await stalls;
      await expect(access(local)).rejects.toThrow();
      dev.child.kill('SIGINT');
      expect((await dev.finished).code).toBe(130);
    } finally {
      await dev.killGroup();
    }
  });

  it.each([
    ['pull', []],
    ['origin', ['--origin-id', 'o1']],
    ['dev', ['--port', '0', '--origin-port', '0']],
  ])('by pip ends it too with graft %s, and keeps no half of the file', async (verb, args) => {
    const bin = path.join(folder, 'bin');
    await mkdir(bin);
    // Called with `-d <folder>` in the end.
    const python = `#!/bin/sh\necho $$ > "${folder}/pid"\necho half > half.whl\nexec sleep 600\n`;
    await writeFile(path.join(bin, 'python3'), python);
    await chmod(path.join(bin, 'python3'), 0o755);
    const PATH = `${bin}:${process.env['PATH'] ?? ''}`;
    const graft = startGraft([verb, ...args], { cwd: folder, env: env({ PATH }) });
    try {
      const pid = () => readFile(path.join(folder, 'pid'), 'utf8').then(Number, () => 0);
      await expect.poll(pid).toBeGreaterThan(0);
      await expect.poll(() => readdir(path.join(folder, 'cache/bases'))).toHaveLength(1);
      graft.child.kill('SIGTERM');
      expect((await graft.finished).code).toBe(130);
      const tool = await pid();
      expect(() => process.kill(tool, 0)).toThrow('ESRCH');
      expect(await readdir(path.join(folder, 'cache/bases'))).toEqual([]);
    } finally {
      await graft.killGroup();
    }
  });
});
