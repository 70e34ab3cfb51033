import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { packAdapter } from '../../adapters/index.ts';
import { ALL_LINEARS, QV, writeRandomAdapter } from '../../bench/adapters/write-random-adapter.ts';

const shape = { layers: 2, hidden: 16, query: 16, keyValue: 8, feedForward: 24 };
const files = async (folder: string) => ({
  configJson: await readFile(path.join(folder, 'adapter_config.json'), 'utf8'),
  weights: new Uint8Array(await readFile(path.join(folder, 'adapter_model.safetensors'))),
});

describe('writeRandomAdapter', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'graft-random-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('writes what the toolkit accepts', async () => {
    await writeRandomAdapter({ folder, seed: 1, rank: 4, modules: ALL_LINEARS, shape });
    const packed = await packAdapter({
      files: await files(folder),
      baseId: 'smollm2-135m-instruct',
      parentChainId: null,
    });
    expect(packed.modules).toHaveLength(shape.layers * ALL_LINEARS.length);
    expect(packed.rank).toBe(4);
    expect(packed.warnings).toEqual([]);
  });

  it('is decided by the seed alone', async () => {
    const pack = async (seed: number) => {
      await writeRandomAdapter({ folder, seed, rank: 2, modules: QV, shape });
      return (
        await packAdapter({
          files: await files(folder),
          baseId: 'smollm2-135m-instruct',
          parentChainId: null,
        })
      ).digest;
    };
    const first = await pack(7);
    expect(await pack(8)).not.toBe(first);
    expect(await pack(7)).toBe(first);
  });
});
