import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readServedBase } from '../../../gpu-origin/backends/vllm/prove-vllm.ts';
import type { BaseInfo } from '../../../protocol/origin-wire.ts';
import { TINY_QWEN3, TINY_SEEING, writeTinyBase } from '../../fixtures/tiny-base.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-vllm-base-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const read = async (): Promise<BaseInfo> => {
  const settings = { context: null, maxRank: 16, cacheDir: folder, onProgress: () => undefined };
  return (await readServedBase({ folder, id: 'base', ...settings })).info;
};

it.each(Object.entries(TINY_SEEING))('reads the text of %s, without what sees', async (_, shape) => {
  writeTinyBase(folder, shape);
  const info = await read();
  expect(info.attention).toEqual({ heads: shape.heads, kv_heads: shape.kvHeads });
  expect(info.context).toBe(shape.context);
  expect(info.modules).toHaveLength(7 * shape.layers);
  for (const { name } of info.modules) expect(name).toMatch(/^(model|language_model)\.(\w+\.)?layers\./);
});

it('names the architecture as GGUF adapters do, and keeps the name of another model', async () => {
  writeTinyBase(folder, TINY_SEEING.qwen3_vl);
  expect((await read()).architecture).toBe('qwen3vl');
  const file = join(folder, 'config.json');
  const json = JSON.parse(readFileSync(file, 'utf8')) as { text_config: object };
  writeFileSync(file, JSON.stringify({ ...json, model_type: 'llava' }));
  expect(await read()).toMatchObject({ architecture: 'llava', attention: { heads: TINY_QWEN3.heads } });
  writeFileSync(file, JSON.stringify({ text_config: json.text_config }));
  await expect(read()).rejects.toThrow('model_type');
});
