import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { AdapterFilesError, readAdapterFiles } from '../../../gpu-origin/adapter-files/pack-folders.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-files-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const put = (...names: string[]): void => {
  for (const name of names) writeFileSync(join(folder, name), name);
};
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

it.each([
  ['PEFT', ['adapter_config.json', 'adapter_model.safetensors', 'README.md', 'optimizer.safetensors'], 1],
  ['mlx-lm', ['adapter_config.json', 'adapters.safetensors', '0000100_adapters.safetensors'], 1],
  ['one safetensors file', ['any.safetensors', 'notes.txt'], 0],
  ['one GGUF file', ['any.gguf'], 0],
] as const)('a folder of %s', async (_, names, configs) => {
  put(...names);
  const files = await readAdapterFiles(folder);
  const expected: string = names[configs]!;
  expect(text(files.weights)).toBe(expected);
  expect(files.weightsPath).toBe(join(folder, expected));
  expect(files.configJson).toBe(configs === 1 ? 'adapter_config.json' : null);
  expect(files.configPath).toBe(join(folder, 'adapter_config.json'));
});

it('reads a file', async () => {
  put('a.gguf', 'adapter_config.json');
  const files = await readAdapterFiles(join(folder, 'a.gguf'));
  expect([text(files.weights), files.configJson]).toEqual(['a.gguf', null]);
});

it.each([
  ['nothing', []],
  ['a pickle alone', ['adapter_config.json', 'adapter_model.bin']],
  ['two files', ['a.gguf', 'b.safetensors']],
  ['PEFT and mlx-lm together', ['adapter_model.safetensors', 'adapters.safetensors']],
])('refuses a folder with %s', async (_, names) => {
  put(...names);
  await expect(readAdapterFiles(folder)).rejects.toThrow(AdapterFilesError);
});

it('refuses a folder with parts of a file by the first part', async () => {
  const parts = [1, 2].map((part) => `adapter_model-0000${part}-of-00002.safetensors`);
  put(...parts, 'adapter_model.safetensors.index.json', 'adapter_config.json');
  await expect(readAdapterFiles(folder)).rejects.toMatchObject({
    code: 'file_in_parts',
    path: join(folder, parts[0]!),
  });
});

it("repeats node's error for a missing path", async () => {
  await expect(readAdapterFiles(join(folder, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
});
