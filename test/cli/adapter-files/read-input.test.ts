import { execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readInput } from '../../../cli/adapter-files/read-input.ts';
import { EXIT } from '../../../cli/cli-error.ts';
import { MAX_PART_BYTES, MAX_PARTS } from '../../../protocol/limits.ts';

const CONFIG = 'adapter_config.json';
const PEFT = 'adapter_model.safetensors';

let folder: string;
const at = (...parts: string[]): string => path.join(folder, ...parts);

beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-input-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** @param files path below the folder -> content. */
async function lay(files: Record<string, string>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(path.dirname(at(name)), { recursive: true });
    await writeFile(at(name), content);
  }
}

const refusal = (exitCode: number, code: string, message: RegExp) =>
  expect.objectContaining({
    exitCode,
    code,
    message: expect.stringMatching(message) as string,
  }) as Error;
const unusable = (message: RegExp) => refusal(EXIT.usage, 'input_invalid', message);
const refused = (message: RegExp) => refusal(EXIT.refused, 'adapter_invalid', message);

describe('readInput takes', () => {
  it.each([
    ['a PEFT folder', PEFT],
    ['an MLX folder', 'adapters.safetensors'],
  ])('%s', async (_, weights) => {
    await lay({ [weights]: 'weights', [CONFIG]: '{"r":8}' });
    const { files, where, bytes, notes } = await readInput(folder);
    expect(new TextDecoder().decode(files.weights)).toBe('weights');
    expect(files).toMatchObject({ configJson: '{"r":8}', weightsPath: at(weights), configPath: at(CONFIG) });
    expect([where, bytes, notes]).toEqual([folder, 7, []]);
  });

  it('accepts a PEFT folder that still contains the pickle', async () => {
    await lay({ [PEFT]: 'weights', 'adapter_model.bin': 'pickle', [CONFIG]: '{}' });
    expect((await readInput(folder)).files.weightsPath).toBe(at(PEFT));
  });

  it('accepts the only adapter in a subfolder, with a note', async () => {
    await lay({ [`named/${PEFT}`]: 'weights', [`named/${CONFIG}`]: '{}', 'README.md': '', 'logs/a.txt': '' });
    const { where, notes, files } = await readInput(folder);
    expect(where).toBe(at('named'));
    expect(files.weightsPath).toBe(at('named', PEFT));
    expect(notes).toEqual([`${folder} contains one adapter, in ${at('named')}; using that.`]);
  });

  it('prefers the folder itself to its subfolders', async () => {
    await lay({ [PEFT]: 'top', [`checkpoint-1/${PEFT}`]: 'below' });
    expect((await readInput(folder)).bytes).toBe(3);
  });

  it.each(['lora.safetensors', 'lora.gguf', 'packed'])('the file %s', async (name) => {
    await lay({ [name]: 'weights' });
    expect(await readInput(at(name))).toMatchObject({
      files: { configJson: null, weightsPath: at(name) },
      where: at(name),
      bytes: 7,
    });
  });

  it('accepts a file with its configuration beside it', async () => {
    await lay({ [PEFT]: 'weights', [CONFIG]: '{"r":4}' });
    expect((await readInput(at(PEFT))).files.configJson).toBe('{"r":4}');
  });

  it('accepts the configuration as its folder', async () => {
    await lay({ [PEFT]: 'weights', [CONFIG]: '{}' });
    expect((await readInput(at(CONFIG))).files.weightsPath).toBe(at(PEFT));
  });

  it('follows symbolic links', async () => {
    await lay({ [`real/${PEFT}`]: 'weights' });
    await symlink(at('real'), at('link'));
    await symlink(at('real', PEFT), at('link.safetensors'));
    expect((await readInput(at('link'))).bytes).toBe(7);
    expect((await readInput(at('link.safetensors'))).bytes).toBe(7);
  });

  it('accepts an empty file, which the format reader refuses', async () => {
    await lay({ 'a.safetensors': '' });
    expect((await readInput(at('a.safetensors'))).bytes).toBe(0);
  });
});

describe('readInput refuses', () => {
  it('refuses a missing path', async () => {
    await expect(readInput(at('nothing'))).rejects.toEqual(
      unusable(/nothing: no such file or folder\. Give a/),
    );
  });

  it('refuses a folder without an adapter', async () => {
    await lay({ 'notes.txt': 'x' });
    await expect(readInput(folder)).rejects.toEqual(unusable(/contains no adapter\. Give a folder/));
  });

  it('refuses a folder with weights under other names, and lists them', async () => {
    await lay({ 'model.safetensors': 'x', 'b.gguf': 'x' });
    await expect(readInput(folder)).rejects.toEqual(
      unusable(/give that file: \S+b\.gguf, \S+model\.safetensors\.$/),
    );
  });

  it('refuses a folder with several adapters, and lists them', async () => {
    await lay({ [`two/${PEFT}`]: 'x', 'one/adapters.safetensors': 'x' });
    await expect(readInput(folder)).rejects.toEqual(
      unusable(/contains 2 adapters\. Give one of \S+one, \S+two\.$/),
    );
  });

  it('shortens a long list after its tenth name', async () => {
    await lay(Object.fromEntries(Array.from({ length: 13 }, (_, index) => [`c${index}/${PEFT}`, 'x'])));
    await expect(readInput(folder)).rejects.toEqual(unusable(/contains 13 adapters\. .* and 3 more\.$/));
  });

  it('refuses PEFT’s and MLX’s weights in one folder', async () => {
    await lay({ [PEFT]: 'x', 'adapters.safetensors': 'x' });
    await expect(readInput(folder)).rejects.toEqual(unusable(/contains both .*\. Give the file you mean/));
  });

  it('refuses a folder with an adapter in several files', async () => {
    const part = 'adapter_model-00001-of-00002.safetensors';
    await lay({ [part]: '', [part.replace('1', '2')]: '', [CONFIG]: '{}' });
    await expect(readInput(folder)).rejects.toEqual(
      refused(/adapter_model-00001-of-00002\.safetensors: This is one of 2 parts .* \(file_in_parts\)$/),
    );
  });

  it.each(['', 'named/'])('a folder with nothing but a pickle (%s)', async (below) => {
    await lay({ [`${below}adapter_model.bin`]: 'x', [`${below}${CONFIG}`]: '{}' });
    await expect(readInput(folder)).rejects.toEqual(
      refused(/adapter_model\.bin: this is a pickle.*safe_serialization=True.*\(pickle_refused\)/),
    );
  });

  it('refuses an npz archive', async () => {
    await lay({ 'adapters.npz': 'x' });
    await expect(readInput(folder)).rejects.toEqual(refused(/adapters\.npz: .*mx\.save_safetensors/));
  });

  it('refuses files above the limits before it reads them', async () => {
    await lay({ [PEFT]: '', [CONFIG]: '{}', 'other/adapters.safetensors': 'x', [`other/${CONFIG}`]: '' });
    await truncate(at(PEFT), MAX_PARTS * MAX_PART_BYTES + 1);
    await expect(readInput(folder)).rejects.toEqual(refused(/has 1056964609 bytes; at most 1056964608/));
    await truncate(at('other', CONFIG), 4 * 1024 * 1024 + 1);
    await expect(readInput(at('other'))).rejects.toEqual(refused(/adapter_config\.json has 4194305 bytes/));
  });

  it.skipIf(process.platform === 'win32')('a named pipe, which would never end', async () => {
    execFileSync('mkfifo', [at('pipe.safetensors')]);
    await expect(readInput(at('pipe.safetensors'))).rejects.toEqual(unusable(/is not a file/));
  });

  it.skipIf(process.getuid?.() === 0)('what may not be read', async () => {
    await lay({ 'a.safetensors': 'x' });
    await chmod(at('a.safetensors'), 0);
    await expect(readInput(at('a.safetensors'))).rejects.toEqual(unusable(/cannot be read \(EACCES\)/));
  });
});
