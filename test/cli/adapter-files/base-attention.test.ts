import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findAttention, readBase } from '../../../cli/adapter-files/adapter-base.ts';
import { EXIT } from '../../../cli/cli-error.ts';
import { PINNED_BASE } from '../../../cli/local/download-package.ts';
import { encodeGguf } from '../../fixtures/write-gguf.ts';

const PINNED = 'smollm2-135m-instruct';
const heads = (kvHeads: number) => ({ heads: 4, kvHeads });
const gguf = (kvHeads: number, more: Parameters<typeof encodeGguf>[0] = {}) =>
  encodeGguf(
    {
      'general.architecture': 'llama',
      'llama.attention.head_count': 4,
      'llama.attention.head_count_kv': kvHeads,
      ...more,
    },
    [],
  );

let folder: string;
let server: Server;
let url: string;
const at = (...parts: string[]): string => path.join(folder, ...parts);

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-base-'));
  await mkdir(at('cache/bases'), { recursive: true });
  await writeFile(at('cache/bases', PINNED_BASE.file), gguf(1));
  const base = {
    id: 'served',
    digest: 'a'.repeat(64),
    weights: 'int8',
    context: 64,
    max_rank_sum: 64,
    modules: [],
    attention: { heads: 4, kv_heads: 2 },
  };
  server = createServer((_, response) =>
    response.end(JSON.stringify({ origins: [{ id: 'local', base, residents: null }] })),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.close();
  await rm(folder, { recursive: true, force: true });
});

describe('readBase', () => {
  it('reads a Hugging Face folder', async () => {
    await mkdir(at('hub'));
    const config = { model_type: 'qwen2', num_attention_heads: 14, num_key_value_heads: 2 };
    await writeFile(at('hub/config.json'), JSON.stringify(config));
    expect(await readBase(at('hub'))).toEqual({
      attention: { heads: 14, kvHeads: 2 },
      architecture: 'qwen2',
      from: at('hub'),
    });
  });

  it('assumes as many key and value heads as query heads when the folder names none', async () => {
    await mkdir(at('old'));
    await writeFile(at('old/config.json'), '{"model_type":"mistral","num_attention_heads":3}');
    expect(await readBase(at('old'))).toMatchObject({
      attention: { heads: 3, kvHeads: 3 },
      architecture: 'llama',
    });
  });

  it.each([
    ['qwen3_vl', { num_attention_heads: 16, num_key_value_heads: 8 }, 'qwen3vl', 16, 8],
    ['mistral3', { num_attention_heads: 32, num_key_value_heads: 8 }, 'mistral3', 32, 8],
    ['gemma3', {}, 'gemma3', 8, 4],
    ['gemma3', { num_attention_heads: 16, num_key_value_heads: 8 }, 'gemma3', 16, 8],
  ])('reads the text of %s, which also sees: %j', async (model_type, text_config, architecture, q, kv) => {
    const hub = at(`seeing-${model_type}-${q}`);
    await mkdir(hub);
    await writeFile(path.join(hub, 'config.json'), JSON.stringify({ model_type, text_config }));
    expect(await readBase(hub)).toMatchObject({ attention: { heads: q, kvHeads: kv }, architecture });
  });

  it('reads a GGUF file whose header is longer than the first read', async () => {
    const vocabulary = Array.from({ length: 150_000 }, (_, index) => `token ${index}`);
    await writeFile(at('long.gguf'), gguf(2, { 'tokenizer.ggml.tokens': vocabulary }));
    expect(await readBase(at('long.gguf'))).toMatchObject({ attention: heads(2), architecture: 'llama' });
  });

  it.each([
    ['nothing', null, /no such file or folder/],
    ['text.gguf', 'this is a text, not a model at all', /not a GGUF file.*\(header_invalid\)/],
    ['cut.gguf', gguf(2).slice(0, -8), /\(truncated_file\)/],
    ['adapter.gguf', encodeGguf({ 'general.architecture': 'llama' }, []), /head_count.*\(metadata_invalid\)/],
    ['empty', new Map([['config.json', '{}']]), /lacks model_type or num_attention_heads/],
    ['none', new Map<string, string>(), /Give the base model's folder/],
  ])('refuses %s', async (name, content, message) => {
    if (content instanceof Map) {
      await mkdir(at(name));
      for (const [file, text] of content) await writeFile(at(name, file), text);
    } else if (content !== null) await writeFile(at(name), content);
    await expect(readBase(at(name))).rejects.toMatchObject({
      exitCode: EXIT.usage,
      code: 'base_invalid',
      message: expect.stringMatching(message) as string,
    });
  });
});

describe('findAttention', () => {
  const find = (baseId: string | null, env: Record<string, string>, base?: string) =>
    findAttention({ base, baseId, env: { GRAFT_CACHE: at('cache'), ...env }, folder });
  const keys = { GRAFT_KEY: 'gk_x', GRAFT_ADMIN_KEY: 'ga_x' };

  it('takes --base before everything else', async () => {
    await writeFile(at('given.gguf'), gguf(4));
    const found = await find(PINNED, { GRAFT_URL: url, ...keys }, at('given.gguf'));
    expect(found?.attention).toEqual(heads(4));
  });

  it('asks the server for its own base, or when the base is unknown', async () => {
    for (const id of ['served', null])
      expect(await find(id, { GRAFT_URL: url, ...keys })).toEqual({
        attention: heads(2),
        architecture: null,
        from: "the server's base, served",
      });
  });

  it('takes the cached default base for an adapter of it', async () => {
    for (const env of [{}, { GRAFT_URL: url, ...keys }, { GRAFT_URL: 'http://127.0.0.1:9', ...keys }])
      expect((await find(PINNED, env))?.attention).toEqual(heads(1));
  });

  it("never uses another base's heads", async () => {
    expect(await find('other', { GRAFT_URL: url, ...keys })).toBeNull();
    expect(await find(null, {})).toBeNull();
    expect(await find(PINNED, { GRAFT_CACHE: at('no-cache') })).toBeNull();
  });
});
