/** The command line names a base as an origin does, without the origin's code. */
import { cpSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { identifyBase } from '../../../cli/local/identify-base.ts';
import { createOutput } from '../../../cli/output.ts';
import { loadBase } from '../../../gpu-origin/model/load-base.ts';
import { TINY_LLAMA, writeTinyBase } from '../../fixtures/tiny-base.ts';
import { writeTinyGguf } from '../../fixtures/tiny-gguf.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'graft-identify-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const output = createOutput({ json: true, stdout: new PassThrough(), stderr: new PassThrough() });
const identify = (base: string, repository: string | null = null) =>
  identifyBase({ base, repository, output });

/** @returns a GGUF file. */
function tinyGguf(name: string): string {
  const base = path.join(folder, 'tiny');
  writeTinyBase(base);
  writeTinyGguf(path.join(folder, name), base, TINY_LLAMA);
  return path.join(folder, name);
}

async function expectSame(base: string): Promise<void> {
  const { base: loaded } = await loadBase(base, undefined);
  loaded.close();
  expect(await identify(base)).toMatchObject({ id: loaded.id, digest: loaded.digest });
}

it('names a Hugging Face folder as an origin does', async () => {
  const base = path.join(folder, 'My-Base');
  writeTinyBase(base);
  await expectSame(base);
  // Others beside it are not read.
  cpSync(path.join(base, 'model.safetensors'), path.join(base, 'consolidated.safetensors'));
  await expectSame(base);
});

it('names a GGUF file as an origin does, whatever its quantization', async () => {
  for (const name of ['Tiny-Base.Q4_1.gguf', 'tiny-base-BF16.gguf', 'tiny-base-IQ2_M.gguf', 'a.b.gguf'])
    await expectSame(tinyGguf(name));
});

it('names a GGUF file in parts as an origin does', async () => {
  const base = path.join(folder, 'tiny');
  writeTinyBase(base);
  for (const part of [0, 1])
    writeTinyGguf(path.join(folder, `Tiny-Q4_0-0000${part + 1}-of-00002.gguf`), base, TINY_LLAMA, {
      metadata: { 'split.count': 2, 'split.no': part },
      keep: (_, at) => at % 2 === part,
    });
  await expectSame(path.join(folder, 'Tiny-Q4_0-00001-of-00002.gguf'));
});

it('has a repository’s name where it leads to the same id', async () => {
  const base = tinyGguf('Tiny-Base.Q8_0.gguf');
  expect(await identify(base, 'owner/Tiny-Base')).toMatchObject({ id: 'tiny-base', name: 'owner/Tiny-Base' });
  expect(await identify(base, 'owner/Tiny-Base-GGUF')).toMatchObject({ name: 'tiny-base' });
  const pinned = path.join(folder, 'SmolLM2-135M-Instruct.Q4_1.gguf');
  renameSync(base, pinned);
  expect((await identify(pinned)).name).toBe('HuggingFaceTB/SmolLM2-135M-Instruct');
});

it('says what it cannot read', async () => {
  await expect(identify(folder)).rejects.toMatchObject({ code: 'base_invalid', exitCode: 2 });
  writeFileSync(path.join(folder, 'config.json'), '[]');
  await expect(identify(folder)).rejects.toMatchObject({ code: 'base_invalid' });
});
