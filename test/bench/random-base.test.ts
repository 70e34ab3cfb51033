import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { writeRandomWeights } from '../../bench/train/random-base.ts';
import { loadFolderBase } from '../../gpu-origin/model/load-base.ts';
import { prepareWeights } from '../../gpu-origin/model/prepare-weights.ts';
import { makeRotations } from '../../gpu-origin/model/rotation.ts';
import { writeTinyBase } from '../fixtures/tiny-base.ts';

it('writes the tensors of a base in int8 as it is served', async () => {
  const work = mkdtempSync(join(tmpdir(), 'graft-random-'));
  try {
    writeTinyBase(join(work, 'base'));
    const base = await loadFolderBase({ path: join(work, 'base') });
    const file = join(work, 'weights.bin');
    const entries = writeRandomWeights(base.config, file);
    const prepared = prepareWeights({
      base,
      format: 'int8',
      context: 2_048,
      rotations: makeRotations(base.config),
      embedding: 'int8',
      onLayer: () => {},
    });
    const described = [...prepared].map(({ name, type, dims, data }) => ({
      name,
      type,
      dims,
      bytes: data.byteLength,
    }));
    expect(entries.map(({ name, type, dims, bytes }) => ({ name, type, dims, bytes }))).toEqual(described);
    expect(statSync(file).size).toBe(described.reduce((sum, { bytes }) => sum + bytes, 0));
    base.close();
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
});
