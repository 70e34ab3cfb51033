import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EXIT } from '../../cli/cli-error.ts';
import { credentialsPath, readCredentials, writeCredentials } from '../../cli/connection.ts';

const URL = 'https://graft.example.com';

describe('credentials file', () => {
  let home: string;
  let env: Record<string, string>;
  const file = () => path.join(home, '.config/graft/credentials.json');
  const write = async (text: string, mode = 0o600) => {
    await mkdir(path.dirname(file()), { recursive: true });
    await writeFile(file(), text);
    await chmod(file(), mode);
  };
  beforeEach(async () => {
    home = await mkdtemp(path.join(os.tmpdir(), 'graft-cli-'));
    env = { HOME: home };
  });
  afterEach(() => rm(home, { recursive: true, force: true }));

  it('is at the place that the environment names', () => {
    expect(credentialsPath(env)).toBe(file());
    expect(credentialsPath({ ...env, XDG_CONFIG_HOME: '/config' })).toBe('/config/graft/credentials.json');
    expect(credentialsPath({})).toBeNull();
  });

  it('is empty when there is none', async () => {
    expect(await readCredentials(env)).toEqual({ default: null, servers: new Map() });
    expect(await readCredentials({})).toEqual({ default: null, servers: new Map() });
  });

  it('is written for its owner only, whatever was there', async () => {
    await write('{}', 0o644);
    await chmod(path.dirname(file()), 0o755);
    const servers = new Map([[URL, { key: 'gk_a' }]]);
    expect(await writeCredentials(env, { default: URL, servers })).toBe(file());
    expect((await stat(file())).mode & 0o777).toBe(0o600);
    expect((await stat(path.dirname(file()))).mode & 0o777).toBe(0o700);
    expect(await readCredentials(env)).toEqual({ default: URL, servers });
  });

  it('is removed with the last server', async () => {
    await write(JSON.stringify({ default: null, servers: { [URL]: { key: 'gk_a' } } }));
    await writeCredentials(env, { default: null, servers: new Map() });
    await expect(readFile(file())).rejects.toThrow();
  });

  it.each([0o640, 0o604, 0o660, 0o601])('is not used with mode %o, and says the chmod', async (mode) => {
    await write('{}', mode);
    await expect(readCredentials(env)).rejects.toMatchObject({
      code: 'credentials_readable',
      exitCode: EXIT.auth,
      message: expect.stringContaining(`chmod 600 ${file()}`) as string,
    });
  });

  it.each(['', '[]', '{"default":"nonsense","servers":{}}', '{"default":null,"servers":{"x":{}}}'])(
    'refuses %j',
    async (text) => {
      await write(text);
      await expect(readCredentials(env)).rejects.toMatchObject({ code: 'credentials_invalid' });
    },
  );

  it('reports a missing home folder', async () => {
    const nothing = { default: null, servers: new Map() };
    await expect(writeCredentials({}, nothing)).rejects.toMatchObject({ code: 'no_home' });
  });
});
