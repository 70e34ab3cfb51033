import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
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

  it('lets the environment win over single fields', async () => {
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

  it('refuses a local file that is something else', async () => {
    await writeFile(localFilePath(folder), '{"url":"nonsense"}');
    await expect(readConnection({ env: {}, folder })).rejects.toMatchObject({ code: 'local_file_invalid' });
  });

  it('says what to do when nothing is set', async () => {
    const connection = await readConnection({ env: {}, folder });
    expect(() => needUrl(connection)).toThrow(/graft dev.*GRAFT_URL/);
    expect(() => needKey(connection, 'adminKey')).toThrow(expect.objectContaining({ exitCode: EXIT.auth }));
  });
});
