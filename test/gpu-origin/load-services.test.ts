import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, expect, it } from 'vitest';
import { packAdapter } from '../../adapters/index.ts';
import { readConfig } from '../../gpu-origin/config.ts';
import { GREEDY } from '../../gpu-origin/generation/sampler.ts';
import { loadServices } from '../../gpu-origin/load-services.ts';
import { TINY_ADAPTERS, TINY_LLAMA, writeTinyAdapter, writeTinyBase } from '../fixtures/tiny-base.ts';
import { collect, request, until } from './engine/harness.ts';

const folder = mkdtempSync(join(tmpdir(), 'graft-load-'));
const readFolder = (path: string) => ({
  configJson: readFileSync(join(path, 'adapter_config.json'), 'utf8'),
  weights: new Uint8Array(readFileSync(join(path, 'adapter_model.safetensors'))),
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('reports a missing tokenizer before anything is prepared', async () => {
  const [base, cache] = [join(folder, 'base'), join(folder, 'cache')];
  writeTinyBase(base);
  rmSync(join(base, 'tokenizer.json'));
  const stages: string[] = [];
  const loading = loadServices({
    config: readConfig(['--base', base, '--cache', cache, '--dev'], {})!,
    observer: {},
    onProgress: (stage) => stages.push(stage),
    onNotice: () => undefined,
    onDiskRefusal: () => undefined,
  });
  await expect(loading).rejects.toThrow(`${base} has no tokenizer.json`);
  expect(stages).toEqual([]);
  expect(existsSync(join(cache, 'graphs'))).toBe(false);
});

it('files needed by a waiting request are not evicted', async () => {
  const [base, cache] = [join(folder, 'tiny'), join(folder, 'small-disk')];
  writeTinyBase(base, { ...TINY_LLAMA, context: 4_096 });
  const files = [1, 2, 3].map((seed) => {
    const made = join(folder, `adapter ${seed}`);
    writeTinyAdapter(made, { ...TINY_ADAPTERS['attention']!, seed }, undefined, 'tiny');
    return readFolder(made);
  });
  const packed = await Promise.all(
    files.map((one) => packAdapter({ files: one, baseId: 'tiny', parentChainId: null })),
  );
  const bytes = packed[0]!.bytes.length;
  const services = await loadServices({
    config: readConfig(
      [
        ...['--base', base, '--base-id', 'tiny', '--cache', cache, '--dev', '--slots', '1'],
        ...['--context', '4096', '--adapter-disk-bytes', String(2 * bytes)],
      ],
      {},
    )!,
    observer: {},
    onProgress: () => undefined,
    onNotice: () => undefined,
    onDiskRefusal: () => undefined,
  });
  const send = async (at: number): Promise<void> => {
    const file = packed[at]!;
    const parts = [{ bytes: file.bytes.length, sha256: file.digest }];
    await services.files.declare(file.digest, { bytes: file.bytes.length, parts });
    const put = await services.files.putPart(file.digest, 0, Readable.from([file.bytes]));
    expect(put).toEqual({ ok: true, value: 'stored' });
  };
  const add = async (chain: number[], maxTokens: number) => {
    const added = await services.engine.add(
      request({
        chain: chain.map((at) => ({ digest: packed[at]!.digest, scale: 1 })),
        sampling: { ...GREEDY, maxTokens, ignoreEos: true },
      }),
    );
    if (!added.ok) throw new Error(added.error.message);
    return collect(added.value);
  };
  await send(0);
  await send(1);
  // One runs, one is next and holds its adapter already, one waits behind both.
  const all = [add([], 2_000), add([0], 1), add([1], 1)];
  await until(() => services.engine.stats().waiting === 2);
  await send(2);
  const ends = await Promise.all(all);
  expect(ends.map(({ final }) => final.kind)).toEqual(['end', 'end', 'end']);
  await services.close();
});
