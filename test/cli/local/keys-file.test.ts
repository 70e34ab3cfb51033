import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EXIT } from '../../../cli/cli-error.ts';
import { ensureKeysFile, keysFilePath, readKeysFile } from '../../../cli/local/graft-folder.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-keys-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('.graft/keys.json', () => {
  it('is created once, for its owner only', async () => {
    expect(await readKeysFile(folder)).toBeNull();
    const keys = await ensureKeysFile(folder);
    expect(await ensureKeysFile(folder)).toEqual(keys);
    expect(new Set(Object.values(keys)).size).toBe(5);
    const file = keysFilePath(folder);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(path.dirname(file))).mode & 0o777).toBe(0o700);
  });

  it.each([0o644, 0o640, 0o604, 0o620, 0o606])(
    'is refused with mode %o, as a checkout would bring it',
    async (mode) => {
      const keys = await ensureKeysFile(folder);
      await chmod(keysFilePath(folder), mode);
      const reading = ensureKeysFile(folder);
      await expect(reading).rejects.toMatchObject({ code: 'keys_readable', exitCode: EXIT.auth });
      for (const secret of Object.values(keys)) await expect(reading).rejects.not.toThrow(secret);
      await chmod(keysFilePath(folder), 0o600);
      expect(await ensureKeysFile(folder)).toEqual(keys);
    },
  );

  it('is not replaced when it cannot be read', async () => {
    const { apiKey } = await ensureKeysFile(folder);
    await writeFile(keysFilePath(folder), `{"apiKey":"${apiKey}"}`);
    const reading = ensureKeysFile(folder);
    await expect(reading).rejects.toMatchObject({ code: 'keys_file_invalid' });
    await expect(reading).rejects.not.toThrow(apiKey);
    expect(await readFile(keysFilePath(folder), 'utf8')).toContain(apiKey);
  });
});
