import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkOutput, outputFiles, writeOutput } from '../../../cli/adapter-files/write-output.ts';
import { EXIT } from '../../../cli/cli-error.ts';

const FOLDER = new Map<string, Uint8Array | string>([
  ['config.json', '{"é":1}'],
  ['weights', Uint8Array.of(1, 2, 3)],
]);

let folder: string;
const at = (...parts: string[]): string => path.join(folder, ...parts);

beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-output-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const failure = (code: string, message: RegExp) =>
  expect.objectContaining({
    exitCode: EXIT.usage,
    code,
    message: expect.stringMatching(message) as string,
  }) as Error;

describe('checkOutput', () => {
  it('accepts new files, new folders and empty folders', async () => {
    await mkdir(at('empty'));
    await checkOutput(at('new'), 'file', false);
    await checkOutput(at('new'), 'folder', false);
    await checkOutput(at('empty'), 'folder', false);
  });

  it('refuses an existing path unless forced', async () => {
    await writeFile(at('file'), 'mine');
    await mkdir(at('full'));
    await writeFile(at('full', 'x'), 'mine');
    for (const [name, kind] of [
      ['file', 'file'],
      ['full', 'folder'],
    ] as const) {
      await expect(checkOutput(at(name), kind, false)).rejects.toEqual(
        failure('output_exists', /exists\. Choose another path, or overwrite it with --force\./),
      );
      await checkOutput(at(name), kind, true);
    }
  });

  it('refuses a folder for a file and a file for a folder, forced or not', async () => {
    await writeFile(at('file'), 'mine');
    await expect(checkOutput(at('file'), 'folder', true)).rejects.toEqual(
      failure('output_invalid', /is not a folder\. Name a folder/),
    );
    await expect(checkOutput(folder, 'file', true)).rejects.toEqual(
      failure('output_invalid', /is a folder\. Name a file/),
    );
  });

  it('refuses a path whose folder is missing', async () => {
    await expect(checkOutput(at('no', 'file'), 'file', false)).rejects.toEqual(
      failure('output_invalid', /no does not exist\. Create it first/),
    );
  });
});

describe('writeOutput', () => {
  it('writes a file and leaves nothing else', async () => {
    await writeOutput(at('file'), Uint8Array.of(1, 2));
    await writeOutput(at('file'), Uint8Array.of(3));
    expect([...(await readFile(at('file')))]).toEqual([3]);
    expect(await readdir(folder)).toEqual(['file']);
  });

  it('writes a folder, new or over one, and keeps other files', async () => {
    await writeOutput(`${at('out')}/`, FOLDER);
    await writeFile(at('out', 'notes.txt'), 'mine');
    await writeOutput(at('out'), new Map([...FOLDER, ['weights', Uint8Array.of(9)]]));
    expect((await readdir(at('out'))).sort()).toEqual(['config.json', 'notes.txt', 'weights']);
    expect([...(await readFile(at('out', 'weights')))]).toEqual([9]);
    expect(await readdir(folder)).toEqual(['out']);
  });

  it('reports a refusal of the disk, and leaves nothing behind', async () => {
    await writeFile(at('file'), '');
    await expect(writeOutput(at('file', 'below'), Uint8Array.of(1))).rejects.toThrow(
      /below cannot be written \(ENOTDIR\)/,
    );
    expect(await readdir(folder)).toEqual(['file']);
  });

  it('counts bytes, not characters', () => {
    expect(outputFiles('out', FOLDER)).toEqual([
      { path: path.join('out', 'config.json'), bytes: 8 },
      { path: path.join('out', 'weights'), bytes: 3 },
    ]);
    expect(outputFiles('out', Uint8Array.of(1))).toEqual([{ path: 'out', bytes: 1 }]);
  });
});
