import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { parseCanonical, readAdapter, writeGgufAdapter, type AdapterFiles } from '../../../adapters/index.ts';
import { openAdapterStore, type AdapterStore } from '../../../gpu-origin/adapter-files/adapter-store.ts';
import {
  FolderError,
  packFolders,
  type FolderToPack,
} from '../../../gpu-origin/adapter-files/pack-folders.ts';
import { chainId } from '../../../protocol/identity.ts';
import type { BaseInfo } from '../../../protocol/origin-wire.ts';
import { base, kohyaFiles, mlxFiles, peftFiles, peftTensors, Q, V } from '../../adapters/make-adapter.ts';

const ATTENTION = { heads: 1, kvHeads: 1 };
const BASE: BaseInfo = { ...base, attention: { heads: 1, kv_heads: 1 } };
let root: string;
let stored: Map<string, Uint8Array>;
let warnings: string[];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'graft-pack-'));
  stored = new Map();
  warnings = [];
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function write(name: string, weightsName: string, files: AdapterFiles): string {
  const folder = join(root, name);
  mkdirSync(folder);
  writeFileSync(join(folder, weightsName), files.weights);
  if (files.configJson !== null) writeFileSync(join(folder, 'adapter_config.json'), files.configJson);
  return folder;
}

const pack = (folders: FolderToPack[], onto: BaseInfo = BASE) =>
  packFolders({
    folders,
    base: onto,
    store: {
      put: async (digest: string, bytes: Uint8Array) => {
        stored.set(digest, bytes);
        return { ok: true, value: undefined };
      },
      status: async (digest: string) => (stored.has(digest) ? 'held' : 'missing'),
    } as unknown as AdapterStore,
    onWarning: (message) => warnings.push(message),
    onProgress: () => undefined,
  });

const gguf = (): AdapterFiles => ({
  configJson: null,
  weights: writeGgufAdapter({
    modules: readAdapter(peftFiles()).modules,
    attention: ATTENTION,
    baseModel: 'someone/Tiny-Llama',
    dtype: 'F32',
  }),
});

it('packs folders and files of every format', async () => {
  const folders = [
    write('peft', 'adapter_model.safetensors', peftFiles()),
    write('mlx', 'adapters.safetensors', mlxFiles()),
    join(write('kohya', 'a.safetensors', kohyaFiles()), 'a.safetensors'),
    write('gguf', 'a.gguf', gguf()),
  ].map((folder, i) => ({ name: `a${i}`, folder, parent: null }));
  const chains = await pack(folders);
  const digests = folders.map(({ name }) => chains.get(name)![0]!.digest);
  expect(new Set(digests.slice(0, 3)).size).toBe(1);
  expect(digests.map((digest) => parseCanonical(stored.get(digest)!).modules.length)).toEqual([2, 2, 2, 2]);
  expect(warnings.map((warning) => warning.slice(0, 10))).toEqual(['adapter a2']);
});

it('reports that the disk does not hold all of them', async () => {
  const folders = [peftFiles(), gguf()].map((files, i) => ({
    name: `a${i}`,
    folder: write(`a${i}`, files.configJson === null ? 'a.gguf' : 'adapter_model.safetensors', files),
    parent: i === 0 ? null : 'a0',
  }));
  await pack(folders);
  const sizes = [...stored.values()].map(({ length }) => length);
  const store = await openAdapterStore({
    folder: join(root, 'store'),
    budgetBytes: Math.max(...sizes),
    now: () => 0,
    isInUse: () => false,
  });
  const packing = packFolders({
    ...{ folders, store, base: BASE },
    onWarning: () => undefined,
    onProgress: () => undefined,
  });
  await expect(packing).rejects.toThrow(
    new FolderError('adapter a0: the adapters do not all fit on the disk. Raise --adapter-disk-bytes'),
  );
});

it('packs a child for the chain of its parent', async () => {
  const folder = write('peft', 'adapter_model.safetensors', peftFiles());
  const chains = await pack([
    { name: 'child', folder, parent: 'root' },
    { name: 'root', folder, parent: null },
  ]);
  const [root0, child] = chains.get('child')!;
  expect(chains.get('root')).toEqual([root0]);
  expect(parseCanonical(stored.get(child!.digest)!).config.parent).toBe(await chainId([root0!]));
});

it.each([
  [
    'an adapter that is refused',
    () => write('x', 'adapter_model.safetensors', peftFiles({ use_dora: true })),
    'DoRA',
  ],
  ['GGUF without the heads', () => write('x', 'a.gguf', gguf()), 'heads'],
  ['an empty folder', () => mkdirSync(join(root, 'x'), { recursive: true })!, 'contains no adapter'],
  ['no folder', () => join(root, 'none'), 'ENOENT'],
])('names the adapter for %s', async (_, make, reason) => {
  const problem = await pack([{ name: 'me/x', folder: make(), parent: null }], base).catch((e: unknown) => e);
  expect(problem).toBeInstanceOf(FolderError);
  expect((problem as Error).message).toMatch(/^adapter me\/x /);
  expect((problem as Error).message).toContain(reason);
});

it.each([
  ['a layer that the base does not have', { ...BASE, modules: [BASE.modules[0]!] }, `${V}: the base`],
  [
    'other sizes',
    { ...BASE, modules: BASE.modules.map((one) => ({ ...one, in: 8 })) },
    `${Q}: the file's A is [2, 4]`,
  ],
  ['a rank above what is served', { ...BASE, max_rank_sum: 1 }, 'rank 2 is above 1'],
])('refuses an adapter with %s before the origin is ready', async (_, onto, reason) => {
  const folder = write('x', 'adapter_model.safetensors', peftFiles({}, peftTensors(2)));
  const problem = await pack([{ name: 'me/x', folder, parent: null }], onto).catch((e: unknown) => e);
  expect(problem).toBeInstanceOf(FolderError);
  expect((problem as Error).message).toMatch(/^adapter me\/x /);
  expect((problem as Error).message).toContain(reason);
  expect(stored.size).toBe(0);
});
