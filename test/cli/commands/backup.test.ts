/** `graft backup` of a server that lies: nothing is written outside of the folder. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';

const GRAFT = fileURLToPath(new URL('../../../bin/graft.mjs', import.meta.url));
const SHA256 = '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881';

let folder: string;
let server: Server;
let tables: { name: string; rows: number }[];
let digest: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-backup-'));
  server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://edge.test');
    const parts = JSON.stringify([{ bytes: 1, sha256: SHA256 }]);
    const rows = { columns: ['digest', 'bytes', 'parts'], rows: [[digest, 1, parts]], cursor: null };
    if (pathname === '/admin/backup') response.end(JSON.stringify({ schema: '', mark: 'm', tables }));
    else response.end(pathname === '/admin/backup/rows' ? JSON.stringify(rows) : 'x');
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
});
afterEach(async () => {
  await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true, force: true });
});

it.each([
  ['a table', '../../escaped', 'd'.repeat(64)],
  ['a file', 'blobs', '../../escaped'],
])('by the name of %s', async (_, table, of) => {
  tables = [{ name: table, rows: 1 }];
  digest = of;
  const { port } = server.address() as AddressInfo;
  const env = {
    ...process.env,
    GRAFT_URL: `http://127.0.0.1:${port}`,
    GRAFT_ADMIN_KEY: 'ga_x',
    GRAFT_KEY: 'x',
  };
  const child = spawn(process.execPath, [GRAFT, 'backup', path.join(folder, 'backup')], {
    ...{ env, cwd: folder },
    stdio: 'ignore',
  });
  await once(child, 'close');
  expect(await readdir(folder)).toEqual(['backup']);
});
