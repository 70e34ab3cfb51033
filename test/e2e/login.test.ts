/** `graft login` and `logout` against a whole stack with a tiny base. */
import { chmod, mkdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runGraft } from './graft-process.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

let stack: TinyStack;
beforeAll(async () => {
  stack = await startTinyStack();
});
afterAll(() => stack.remove());

describe('graft login, logout', () => {
  const home = () => path.join(stack.folder, 'home');
  const file = () => path.join(home(), '.config/graft/credentials.json');
  /** Away from `.graft/local.json`. */
  const elsewhere = (args: string[], stdin = '') =>
    runGraft(args, { cwd: home(), env: { HOME: home() }, stdin });

  beforeAll(() => mkdir(home()));

  it('keeps keys that the server takes, for their owner alone, and prints none', async () => {
    const login = await elsewhere(['login', '--url', stack.local.url], `${stack.local.key}\n`);
    expect(login.code, login.stderr).toBe(0);
    const admin = await elsewhere(['login', '--url', `${stack.local.url}/`, '--admin'], stack.local.adminKey);
    expect(admin.code, admin.stderr).toBe(0);
    const said = [login, admin].map(({ stdout, stderr }) => stdout + stderr).join('');
    expect(said).not.toContain(stack.local.key);
    expect(said).not.toContain(stack.local.adminKey);
    expect((await stat(file())).mode & 0o777).toBe(0o600);
    expect((await stat(path.dirname(file()))).mode & 0o777).toBe(0o700);
    const asked = await elsewhere(['run', 'tiny-base', 'hello', '--max-tokens', '4']);
    expect(asked.code, asked.stderr).toBe(0);
    expect((await elsewhere(['ls'])).stdout).toBe('no names\n');
  });

  it('refuses a key that the server refuses, and keeps the file as it is', async () => {
    const before = await readFile(file(), 'utf8');
    const unknown = 'gk_' + '0'.repeat(33);
    const malformed = await elsewhere(['login', '--url', stack.local.url], unknown);
    expect([malformed.code, malformed.stderr]).toEqual([4, expect.not.stringContaining(unknown)]);
    const wrongKind = await elsewhere(['login', '--url', stack.local.url], stack.local.adminKey);
    expect([wrongKind.code, wrongKind.stderr]).toEqual([4, expect.stringContaining('--admin')]);
    expect((await elsewhere(['login', '--url', 'http://example.com'], stack.local.key)).code).toBe(2);
    expect(await readFile(file(), 'utf8')).toBe(before);
  });

  it('refuses a file that others may read', async () => {
    await chmod(file(), 0o640);
    const { code, stderr } = await elsewhere(['ls']);
    expect([code, stderr]).toEqual([4, expect.stringContaining(`chmod 600 ${file()}`)]);
    await chmod(file(), 0o600);
  });

  it('forgets', async () => {
    expect((await elsewhere(['logout'])).stdout).toContain(`logged out of ${stack.local.url}`);
    await expect(stat(file())).rejects.toThrow();
    expect((await elsewhere(['ls'])).code).toBe(2);
    expect((await elsewhere(['logout'])).code).toBe(3);
  });
});
