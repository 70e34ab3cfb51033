/** A backup that the real command line makes of one stack and brings back into another, with other secrets. */
import { appendFile, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, request as forward, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BackupManifest } from '../../cli/commands/backup.ts';
import { trainingCard } from '../contracts/sample-training.ts';
import { TINY_ADAPTERS, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { runGraft } from './graft-process.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

let before: TinyStack;
let after: TinyStack;
let folder: string;
/** A key of before. */
let key: string;
const ofBackup = async () =>
  BackupManifest.parse(JSON.parse(await readFile(path.join(folder, 'manifest.json'), 'utf8')));
const complete = async (stack: TinyStack, withKey: string, model: string) => {
  const response = await fetch(`${stack.local.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${withKey}` },
    body: JSON.stringify({
      model,
      max_tokens: 4,
      temperature: 0,
      messages: [{ role: 'user', content: 'hi' }],
    }),
  });
  const body = (await response.json()) as { choices?: { message: { content: string } }[] };
  return [response.status, response.headers.get('x-graft-adapter'), body.choices?.[0]?.message.content];
};

/** In front of a server: refuses what is asked for under a path, and passes all else on. */
async function startCut(to: string, refused: string): Promise<{ url: string; server: Server }> {
  const server = createServer((request, response) => {
    if (request.url?.startsWith(refused) === true) {
      response.writeHead(403, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: { message: 'cut off', type: 't', param: null, code: 'x' } }));
      return;
    }
    const { method, headers } = request;
    const passed = forward(new URL(request.url ?? '/', to), { method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    passed.on('error', () => response.destroy());
    request.pipe(passed);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

beforeAll(async () => {
  before = await startTinyStack();
  folder = path.join(before.folder, 'backup');
  const kinds = Object.keys(TINY_ADAPTERS).slice(0, 2);
  for (const [i, kind] of kinds.entries())
    writeTinyAdapter(path.join(before.folder, `adapter-${i}`), TINY_ADAPTERS[kind] as TinyAdapter);
  await writeFile(path.join(before.folder, 'adapter-1', 'training.json'), JSON.stringify(trainingCard()));
  for (const args of [
    ['publish', 'adapter-0', '--name', 'team/root'],
    ['publish', 'adapter-1', '--name', 'team/root'],
    ['rollback', 'team/root'],
    ['publish', 'adapter-1', '--name', 'team/root/deep', '--parent', 'team/root'],
    ['alias', 'team/latest', 'team/root/deep'],
  ])
    expect([args, (await before.graft(...args)).code]).toEqual([args, 0]);
  const made = await before.graft('keys', 'create', '--tenant', 'acme', '--scopes', 'team/**', '--json');
  ({ key } = JSON.parse(made.stdout) as { key: string });
});
afterAll(async () => {
  await before.remove();
  await after?.remove();
});

it('is written with its sha256s, and again without fetching what is there', async () => {
  const made = await before.graft('backup', folder);
  expect([made.code, made.stderr]).toEqual([0, '']);
  expect(made.stdout).toMatch(/^wrote +.*manifest\.json\ntables +\d+, \d+ rows\nfiles +3, \d+ kB\n$/);
  const manifest = await ofBackup();
  expect(manifest).toMatchObject({ changed: false, lost: [] });
  expect(manifest.tables.find(({ name }) => name === 'versions')?.rows).toBe(3);
  expect((await stat(folder)).mode & 0o777).toBe(0o700);
  // Hashes of keys, no keys.
  for (const name of await readdir(path.join(folder, 'tables')))
    expect(await readFile(path.join(folder, 'tables', name), 'utf8')).not.toContain(key);
  const [first] = manifest.files;
  const file = path.join(folder, 'files', first!.digest);
  const { mtimeMs } = await stat(file);
  // One that is damaged is fetched again; one that nobody knows goes.
  await appendFile(path.join(folder, 'files', manifest.files[1]!.digest), 'x');
  await writeFile(path.join(folder, 'files', 'f'.repeat(64)), 'erased since');
  expect((await before.graft('backup', folder)).code).toBe(0);
  expect((await stat(file)).mtimeMs).toBe(mtimeMs);
  expect((await readdir(path.join(folder, 'files'))).sort()).toEqual(
    manifest.files.map(({ digest }) => digest).sort(),
  );
});

it('is not brought back where there is something, nor when it is damaged or was cut off', async () => {
  const full = await before.graft('restore-backup', folder);
  expect([full.code, full.stderr]).toEqual([5, expect.stringContaining('into an empty registry')]);
  const names = path.join(folder, 'tables', 'names.ndjson');
  const good = await readFile(names);
  await appendFile(names, '\n');
  const damaged = await before.graft('restore-backup', folder);
  expect([damaged.code, damaged.stderr]).toEqual([1, expect.stringContaining('names.ndjson is corrupted')]);
  await writeFile(names, good);
  const none = await before.graft('restore-backup', before.folder);
  expect([none.code, none.stderr]).toEqual([3, expect.stringContaining('this is not a backup')]);
});

it('serves what was served before, with the keys of before, behind other secrets', async () => {
  const served = [await complete(before, key, 'team/latest'), await complete(before, key, 'team/root')];
  expect(served.map(([status, adapter]) => [status, adapter])).toEqual([
    [200, 'team/root/deep@1'],
    [200, 'team/root@1'],
  ]);
  await before.dev.killGroup();
  after = await startTinyStack();
  const graft = (...args: string[]) =>
    runGraft(args, { cwd: after.folder, env: { GRAFT_CACHE: path.join(after.folder, 'cache') } });
  expect(after.keys).not.toEqual(before.keys);
  expect((await complete(after, key, 'team/root'))[0]).toBe(401);

  const dry = await graft('restore-backup', folder, '--dry-run');
  expect([dry.code, dry.stderr]).toEqual([0, '']);
  expect(dry.stdout).toMatch(/^dry run: would be restored +backup of \d/);
  expect((await graft('ls')).stdout).toBe('no names\n');

  // The first time it breaks off in the middle: a file is not there.
  const [first] = (await ofBackup()).files;
  const file = path.join(folder, 'files', first!.digest);
  const bytes = await readFile(file);
  await rm(file);
  const broken = await graft('restore-backup', folder);
  expect([broken.code, broken.stderr]).toEqual([
    1,
    expect.stringContaining(`file ${first!.digest} is missing`),
  ]);
  await writeFile(file, bytes);
  // The second time at its end: KV is not told.
  const cut = await startCut(after.local.url, '/admin/repair');
  const env = { GRAFT_URL: cut.url, GRAFT_ADMIN_KEY: after.local.adminKey };
  const untold = await runGraft(['restore-backup', folder], { cwd: after.folder, env });
  cut.server.close();
  expect([untold.code === 0, untold.stderr]).toEqual([false, expect.stringContaining('write KV')]);
  const restored = await graft('restore-backup', folder);
  expect(restored.stderr).toContain('continues an earlier restore');
  expect([restored.code, restored.stdout]).toEqual([
    0,
    expect.stringMatching(/^restored +backup of .*\ntables.*\nfiles +3, /),
  ]);

  expect([await complete(after, key, 'team/latest'), await complete(after, key, 'team/root')]).toEqual(
    served,
  );
  const versions = await graft('versions', 'team/root');
  expect(versions.stdout).toMatch(/^2 +rolled back .*\n1 +live/m);
  expect(versions.stdout).toMatch(/\n@2 trained on 60 rows .*\n$/);
  expect((await graft('repair', '--dry-run', '--json')).stdout).toContain('"mended":[]');
  expect((await graft('repair', '--blobs', '--dry-run', '--json')).stdout).toContain('"mended":[]');
  // It has ended: what is there now is somebody's.
  expect((await graft('restore-backup', folder)).code).toBe(5);
  expect((await graft('publish', path.join(before.folder, 'adapter-0'), '--name', 'team/new')).code).toBe(0);
});
