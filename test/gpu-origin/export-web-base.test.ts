import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportWebBase } from '../../gpu-origin/export-web-base.ts';
import { readConfigJson, readFoldedGains } from '../../gpu-origin/model/web-base.ts';
import { loadBase } from '../../gpu-origin/model/load-base.ts';
import { readTokenizer } from '../../gpu-origin/model/load-tokenizer.ts';
import { TokenizerDefinitionJson } from '../../gpu-origin/model/tokenizer-definition.ts';
import { readGains } from '../../gpu-origin/runtime/adapter-batch.ts';
import { type WebBaseFile, WebBaseManifest } from '../../protocol/browser-downloads.ts';
import { TINY_SHAPES, writeTinyBase } from '../fixtures/tiny-base.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-export-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

async function exported(
  name: string,
  partBytes: number,
): Promise<{ out: string; base: string; manifest: WebBaseManifest }> {
  const base = join(folder, name);
  const out = join(folder, `${name}-web`);
  writeTinyBase(base, TINY_SHAPES[name]);
  const manifest = await exportWebBase({
    ...{ basePath: base, cacheDir: join(folder, `${name}-cache`), folder: out, partBytes },
    onProgress: () => {},
  });
  return { out, base, manifest };
}

function readFile(
  out: string,
  { parts, files }: WebBaseManifest,
  name: WebBaseFile,
): Uint8Array<ArrayBuffer> {
  const all = Buffer.concat(parts.map((part) => readFileSync(join(out, `${part.sha256}.bin`))));
  const { offset, bytes } = files[name];
  return Uint8Array.from(all.subarray(offset, offset + bytes));
}

describe.each(Object.keys(TINY_SHAPES))('an export of a tiny %s', (name) => {
  it('holds the base’s configuration, gains and tokenizer as an origin reads them', async () => {
    const { out, base: path, manifest } = await exported(name, 1_000_000);
    expect(WebBaseManifest.parse(JSON.parse(readFileSync(join(out, 'base.json'), 'utf8')))).toEqual(manifest);
    const { base, tokenizerSource } = await loadBase(path, undefined);
    const text = (file: WebBaseFile): string => new TextDecoder().decode(readFile(out, manifest, file));
    const config = readConfigJson(text('config.json'));
    expect(config).toEqual(base.config);
    const gains = readGains(
      readFoldedGains(readFile(out, manifest, 'gains.safetensors'), { ...base, config }),
    );
    const whole = readGains(base);
    for (const kind of ['q', 'o', 'gate'] as const) expect(gains(1, kind)).toEqual(whole(1, kind));
    const definition = TokenizerDefinitionJson.parse(JSON.parse(text('tokenizer.json')));
    expect(definition).toEqual(JSON.parse(JSON.stringify(readTokenizer(tokenizerSource))));
    base.close();
  });
});

it('cuts parts of one size, each under its sha256, and replaces those of an export before', async () => {
  const { out, manifest } = await exported('llama', 50_000);
  expect(manifest.parts.slice(0, -1).every(({ bytes }) => bytes === 50_000)).toBe(true);
  for (const { sha256: digest, bytes } of manifest.parts) {
    const part = readFileSync(join(out, `${digest}.bin`));
    expect([part.length, sha256(part)]).toEqual([bytes, digest]);
  }
  writeFileSync(join(out, 'README'), 'not ours');
  const again = await exported('llama', 80_000);
  expect(readdirSync(out).sort()).toEqual(
    ['README', 'base.json', ...again.manifest.parts.map(({ sha256: digest }) => `${digest}.bin`)].sort(),
  );
  expect(sha256(readFile(out, again.manifest, 'weights.bin'))).toMatch(/^[0-9a-f]{64}$/);
});

it('has the embedding in int8, but for bases whose stream is not rotated', async () => {
  const typeOf = async (name: string): Promise<string | undefined> => {
    await exported(name, 1e6);
    const graphs = join(folder, `${name}-cache`, 'graphs');
    const [key] = readdirSync(graphs);
    const built = JSON.parse(readFileSync(join(graphs, key!, 'manifest.json'), 'utf8')) as {
      weights: { name: string; type: string }[];
    };
    return built.weights.find((entry) => entry.name === 'embed')?.type;
  };
  expect([await typeOf('llama'), await typeOf('gemma3')]).toEqual(['i8', 'f32']);
});
