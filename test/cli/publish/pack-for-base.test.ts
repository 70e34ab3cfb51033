import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readInput } from '../../../cli/adapter-files/read-input.ts';
import { packForBase } from '../../../cli/publish/pack-input.ts';
import type { BaseInfo } from '../../../protocol/origin-wire.ts';
import { TINY_ADAPTERS, writeTinyAdapter } from '../../fixtures/tiny-base.ts';

const baseOf = (id: string): BaseInfo => ({
  id,
  digest: 'b'.repeat(64),
  weights: 'f32',
  context: 512,
  max_rank_sum: 64,
  modules: [],
});
const SMALL = baseOf('small-1b');
const LARGE = baseOf('large-7b');

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-pack-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** @param named as `base_model_name_or_path` has it. */
async function pack(
  named: string,
  more: { bases?: readonly BaseInfo[]; parentBase?: string | null; parentChainId?: string } = {},
) {
  const at = path.join(folder, named.replaceAll('/', '_'));
  writeTinyAdapter(at, TINY_ADAPTERS['attention']!, undefined, named);
  const { base, packed } = await packForBase({
    input: await readInput(at),
    bases: more.bases ?? [SMALL, LARGE],
    parentBase: more.parentBase ?? null,
    parentChainId: more.parentChainId ?? null,
    bf16: false,
  });
  expect(packed.config.base).toBe(base.id);
  return base.id;
}

describe('the base that an adapter is packed for', () => {
  it('is the one that it names', async () => {
    expect(await pack('owner/Small-1B')).toBe('small-1b');
    expect(await pack('owner/Large-7B')).toBe('large-7b');
  });

  it('is the one that it names a copy of', async () => {
    expect(await pack('owner/Large-7B-4bit')).toBe('large-7b');
  });

  it('is its parent’s if it names none, and must be given without a parent', async () => {
    const local = '/home/me/models/x y';
    const parentChainId = 'c'.repeat(64);
    expect(await pack(local, { parentBase: 'large-7b', parentChainId })).toBe('large-7b');
    await expect(pack(local)).rejects.toMatchObject({
      code: 'base_unknown',
      message: expect.stringContaining('small-1b, large-7b') as string,
    });
  });

  it("is the server's only base", async () => {
    expect(await pack('/home/me/models/x y', { bases: [SMALL] })).toBe('small-1b');
    await expect(pack('owner/Other-3B', { bases: [SMALL] })).rejects.toMatchObject({
      code: 'adapter_invalid',
    });
  });

  it('is refused if the server does not have it, with a list', async () => {
    await expect(pack('owner/Other-3B')).rejects.toMatchObject({
      code: 'adapter_invalid',
      reason: 'base_mismatch',
      message: expect.stringContaining('small-1b, large-7b') as string,
    });
  });
});
