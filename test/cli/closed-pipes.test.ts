/** `graft` as a process whose output nobody reads, or nobody can keep. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createAppHarness } from '../worker/app-harness.ts';

const GRAFT = fileURLToPath(new URL('../../bin/graft.mjs', import.meta.url));

let server: Server;
let env: NodeJS.ProcessEnv;
beforeEach(async () => {
  const graft = await createAppHarness();
  server = createServer((request, response) => {
    void (async () => {
      const pieces: Buffer[] = [];
      for await (const piece of request) pieces.push(piece as Buffer);
      const body = Buffer.concat(pieces).toString();
      const method = request.method ?? 'GET';
      const answer = await graft.request(request.url ?? '/', {
        method,
        ...(body === '' ? {} : { body: JSON.parse(body) as unknown }),
      });
      response.writeHead(answer.status).end(await answer.text());
    })();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  env = {
    ...process.env,
    GRAFT_URL: `http://127.0.0.1:${port}`,
    GRAFT_ADMIN_KEY: graft.adminKey,
    GRAFT_KEY: 'x',
  };
});
afterEach(() => new Promise((resolve) => server.close(resolve)));

it('prints a new key even if nobody reads the notes beside it', async () => {
  const child = spawn(process.execPath, [GRAFT, 'keys', 'create', '--tenant', 'acme'], {
    env,
    cwd: tmpdir(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  child.stderr.destroy();
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  const [code] = (await once(child, 'close')) as [number | null];
  expect(out).toMatch(/^gk_[0-9A-Za-z]{33}\n$/);
  expect(code).toBe(0);
});

it.runIf(process.platform === 'linux')('says in a line that its output cannot be kept', async () => {
  const full = openSync('/dev/full', 'w');
  const child = spawn(process.execPath, [GRAFT, 'keys', '--json'], {
    env,
    cwd: tmpdir(),
    stdio: ['ignore', full, 'pipe'],
  });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said += text));
  const [code] = (await once(child, 'close')) as [number | null];
  expect(JSON.parse(said)).toEqual({
    error: { code: 'disk_full', message: expect.stringMatching(/^The disk is full: ENOSPC/) as string },
  });
  expect(code).toBe(1);
});
