import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EXIT } from '../../cli/cli-error.ts';
import { localFilePath, needKey, needUrl, readConnection } from '../../cli/connection.ts';

const LOCAL = {
  url: 'http://127.0.0.1:8787',
  key: 'gk_local',
  adminKey: 'ga_local',
  originUrl: 'http://127.0.0.1:8788',
  base: 'tiny',
};

describe('readConnection', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'graft-cli-'));
    await mkdir(path.join(folder, '.graft'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('reads the local file', async () => {
    await writeFile(localFilePath(folder), JSON.stringify(LOCAL));
    expect(await readConnection({ env: {}, folder })).toEqual(LOCAL);
  });

  it('the environment overrides single fields', async () => {
    await writeFile(localFilePath(folder), JSON.stringify(LOCAL));
    expect(await readConnection({ env: { GRAFT_KEY: 'gk_mine' }, folder })).toEqual({
      ...LOCAL,
      key: 'gk_mine',
    });
  });

  it('never sends the local keys to another server', async () => {
    await writeFile(localFilePath(folder), JSON.stringify(LOCAL));
    const connection = await readConnection({ env: { GRAFT_URL: 'https://example.com/' }, folder });
    expect(connection).toEqual({
      url: 'https://example.com',
      key: undefined,
      adminKey: undefined,
      originUrl: undefined,
      base: undefined,
    });
  });

  describe('with credentials', () => {
    const FIRST = { key: 'gk_first', adminKey: 'ga_first' };
    const SECOND = { key: 'gk_second' };
    const servers = { 'https://first.example': FIRST, 'https://second.example': SECOND };
    const env = () => ({ HOME: folder });
    const write = async () => {
      const file = path.join(folder, '.config/graft/credentials.json');
      await mkdir(path.dirname(file), { recursive: true });
      await writeFile(file, JSON.stringify({ default: 'https://first.example', servers }), { mode: 0o600 });
      return file;
    };

    it('talks to the server of the last login', async () => {
      await write();
      const expected = { url: 'https://first.example', ...FIRST };
      expect(await readConnection({ env: env(), folder })).toMatchObject(expected);
    });

    it('sends no key of the environment to the server of the last login', async () => {
      await write();
      for (const name of ['GRAFT_KEY', 'GRAFT_ADMIN_KEY']) {
        const connecting = readConnection({ env: { ...env(), [name]: 'secret' }, folder });
        await expect(connecting).rejects.toMatchObject({ code: 'no_server', exitCode: EXIT.usage });
        await expect(connecting).rejects.toThrow(`${name} is set but GRAFT_URL is not`);
        await expect(connecting).rejects.not.toThrow('secret');
      }
    });

    it('uses the keys of exactly the server in GRAFT_URL, or none', async () => {
      await write();
      const second = { ...env(), GRAFT_URL: 'https://second.example/' };
      expect(await readConnection({ env: second, folder })).toMatchObject({
        url: 'https://second.example',
        key: 'gk_second',
        adminKey: undefined,
      });
      const third = { ...env(), GRAFT_URL: 'https://first.example.evil' };
      expect(await readConnection({ env: third, folder })).toMatchObject({
        key: undefined,
        adminKey: undefined,
      });
    });

    it('does not read credentials if a local stack runs, or the environment is complete', async () => {
      const file = await write();
      await chmod(file, 0o644);
      await expect(readConnection({ env: env(), folder })).rejects.toThrow(/chmod 600/);
      const all = { ...env(), GRAFT_URL: 'https://x.example', GRAFT_KEY: 'gk', GRAFT_ADMIN_KEY: 'ga' };
      expect(await readConnection({ env: all, folder })).toMatchObject({ key: 'gk', adminKey: 'ga' });
      await writeFile(localFilePath(folder), JSON.stringify(LOCAL));
      expect(await readConnection({ env: env(), folder })).toEqual(LOCAL);
    });
  });

  it('refuses a local file in another format', async () => {
    await writeFile(localFilePath(folder), '{"url":"nonsense"}');
    await expect(readConnection({ env: {}, folder })).rejects.toMatchObject({ code: 'local_file_invalid' });
  });

  it.each([
    ['url', 'https://evil.example'],
    ['url', 'http://127.0.0.1.evil.example'],
    ['url', 'http://127.0.0.1@evil.example'],
    ['url', 'http://[::2]:8787'],
    ['url', 'ftp://127.0.0.1'],
    ['originUrl', 'https://evil.example'],
  ])('refuses a local file whose %s is %s, which a checkout may contain', async (field, value) => {
    await writeFile(localFilePath(folder), JSON.stringify({ ...LOCAL, [field]: value }));
    for (const env of [{}, { GRAFT_KEY: 'gk_mine' }, { GRAFT_ADMIN_KEY: 'ga_mine' }])
      await expect(readConnection({ env, folder })).rejects.toMatchObject({ code: 'local_file_invalid' });
  });

  it.each(['http://localhost:1', 'http://127.0.0.1:2', 'http://[::1]:3'])(
    'takes %s as this machine',
    async (url) => {
      await writeFile(localFilePath(folder), JSON.stringify({ ...LOCAL, url }));
      expect(await readConnection({ env: { GRAFT_KEY: 'gk_mine' }, folder })).toMatchObject({
        url,
        key: 'gk_mine',
      });
    },
  );

  it('says what to do when nothing is set', async () => {
    const connection = await readConnection({ env: {}, folder });
    expect(() => needUrl(connection)).toThrow(
      expect.objectContaining({ message: expect.stringContaining('GRAFT_URL') as string, next: 'graft dev' }),
    );
    expect(() => needKey(connection, 'adminKey')).toThrow(
      expect.objectContaining({ exitCode: EXIT.auth, next: 'graft login --admin' }),
    );
  });
});
