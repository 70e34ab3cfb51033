/** Names and a tenant that are erased by the real command line, on a whole stack: edge, origin and their folders. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TINY_ADAPTERS, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

let stack: TinyStack;
const at = (...parts: string[]) => path.join(stack.folder, ...parts);
const graft = (...args: string[]) => stack.graft(...args);
const json = async (...args: string[]): Promise<Record<string, unknown>> => {
  const { code, stdout, stderr } = await graft(...args, '--json');
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Record<string, unknown>;
};
/** Files under a folder of the stack that have one of the words in their path, or in what they hold. */
async function filesWith(words: readonly string[], under: string): Promise<string[]> {
  const found: string[] = [];
  for (const file of await readdir(at(under), { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue;
    const whole = path.join(file.parentPath, file.name);
    const bytes = await readFile(whole);
    if (words.some((word) => whole.includes(word) || bytes.includes(word))) found.push(whole);
  }
  return found;
}

const digests: string[] = [];
beforeAll(async () => {
  stack = await startTinyStack();
  const kinds = Object.keys(TINY_ADAPTERS).slice(0, 2);
  for (const [i, kind] of kinds.entries())
    writeTinyAdapter(at(`adapter-${i}`), TINY_ADAPTERS[kind] as TinyAdapter);
  const root = await json('publish', 'adapter-0', '--name', 'team/root');
  const deep = await json('publish', 'adapter-1', '--name', 'team/deep', '--parent', 'team/root');
  digests.push(root['digest'] as string, deep['digest'] as string);
  expect((await graft('run', 'team/deep', 'hello', '--max-tokens', '2')).code).toBe(0);
});
afterAll(() => stack.remove());

it('says what is in the way, what would go, and asks', async () => {
  expect(await filesWith(digests, 'cache')).toHaveLength(2);
  const refused = await graft('erase', 'team/root', '--yes');
  expect([refused.code, refused.stderr]).toEqual([5, expect.stringContaining('Built on it: team/deep@1')]);
  const dry = await graft('erase', 'team/root', '--cascade', '--dry-run');
  expect(dry.stdout).toMatch(
    /^dry run: would be erased, of default\n {2}2 names, 2 versions\n {2}2 files, \d+ kB\nkept: usage records, for bills\n/,
  );
  const unasked = await graft('erase', 'team/root', '--cascade');
  expect([unasked.code, unasked.stderr]).toEqual([5, expect.stringContaining('No terminal to confirm')]);
  for (const args of [[], ['a', '--tenant', 'b'], ['**'], ['--tenant', 'A B']])
    expect([args, (await graft('erase', ...args)).code]).toEqual([args, 2]);
  expect((await graft('ls')).stdout).toContain('team/root');
});

it('erases for good, the files on the origin’s disk with it, and then finds nothing', async () => {
  const erased = await graft('erase', 'team/root', '--cascade', '--yes');
  expect(erased.stderr).toBe('');
  expect(erased.stdout).toMatch(
    /^erased, of default\n {2}2 names, 2 versions.*\n {2}2 files, \d+ kB\nrecords of requests still in progress are erased automatically after .*\n$/,
  );
  expect(erased.code).toBe(0);
  expect(await filesWith(digests, 'cache')).toEqual([]);
  expect((await graft('ls')).stdout).not.toContain('team');
  expect((await graft('run', 'team/deep', 'hello')).code).toBe(3);
  expect((await graft('restore', 'team/root')).code).toBe(3);
  const { adapters } = (await json('ps')) as { adapters?: unknown[] };
  expect(JSON.stringify(adapters ?? [])).not.toContain(digests[0]);
  const again = await json('erase', 'team/root', '--yes');
  expect(again).toMatchObject({ unreached: [], erased: { names: 0, files: 0 } });
  expect((await graft('log')).stdout).toMatch(/team\/root +erase +- +- +bootstrap/);
});

it('erases a tenant with its keys', async () => {
  await graft('keys', 'create', '--tenant', 'alice', '--scopes', '**');
  await json('publish', 'adapter-0', '--name', 'mine');
  const { url, adminKey } = stack.local;
  const published = await fetch(`${url}/admin/versions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${adminKey}` },
    body: JSON.stringify({ name: 'alice/root', digest: digests[0], owner: 'alice' }),
  });
  expect(published.status).toBe(201);
  expect(await json('erase', '--tenant', 'alice', '--usage', '--yes', '--why', 'asked for it')).toMatchObject(
    {
      ...{ owner: 'alice', unreached: [] },
      erased: { names: 1, versions: 1, keys: 1, files: 0 },
      kept: { files: 1 },
    },
  );
  expect((await graft('keys')).stdout).not.toContain('alice');
  // The same bytes are another's too.
  expect((await graft('run', 'mine', 'hello', '--max-tokens', '2')).code).toBe(0);
});
