/** The trial of adapters on an origin whose keys and values are in int8: what clips, and whether it matters. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Engine } from '../../../gpu-origin/engine/engine.ts';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import type { KvFormat } from '../../../gpu-origin/runtime/kv-cache.ts';
import type { TinyAdapter } from '../../fixtures/tiny-base.ts';
import { makeTinyRunner, type TinyRunner } from '../../fixtures/tiny-runner.ts';
import { openTrials } from '../../fixtures/trials.ts';

const adapterOf = (targets: readonly string[], size: number): TinyAdapter => ({
  ...{ seed: 5, rank: 4, alpha: 4, targets, size },
});

async function opened(kv: KvFormat) {
  const tiny = await makeTinyRunner({ weights: 'f32', kv, slots: 2, prefixBytes: 2 ** 22 });
  const tokenizer = loadTokenizer({ kind: 'folder', path: join(tiny.folder, 'tiny-base') });
  const { engine, source, verify } = openTrials(tiny.runner, tokenizer);
  return {
    ...{ engine, tiny, source },
    verify: async (name: string, adapter: TinyAdapter) => verify([await tiny.file(name, adapter)]),
  };
}

let int8: Awaited<ReturnType<typeof opened>>;
beforeAll(async () => {
  int8 = await opened('int8');
});
const close = async ({ engine, tiny }: { engine: Engine; tiny: TinyRunner }): Promise<void> => {
  await engine.close();
  await tiny.close();
};
afterAll(() => close(int8));

it('accepts an adapter whose keys and values fit, and says how well', async () => {
  const seen = await int8.verify('small', adapterOf(['k_proj', 'v_proj'], 0.05));
  expect(seen).toMatchObject({ ok: true, reason: null, kv: { clipped: 0 } });
  expect(seen.kv!.kl).toBeLessThan(0.01);
  expect(seen.kv!.values).toBeGreaterThan(1_000);
});

it.each([
  ['a few values lose little', 0.3],
  ['more values lose more, but its answers stay', 0.4],
])('accepts an adapter of which %s', async (_, size) => {
  const seen = await int8.verify(`clips ${size}`, adapterOf(['v_proj'], size));
  expect(seen).toMatchObject({ ok: true, reason: null });
  expect(seen.kv!.clipped).toBeGreaterThan(0);
  expect(seen.kv!.kl).toBeLessThan(0.01);
});

it.each([
  ['v', 0.6],
  ['v', 3],
  ['k', 6],
])('refuses one whose %s is clipped so that its answers change', async (kind, size) => {
  const seen = await int8.verify(`large ${kind} ${size}`, adapterOf([`${kind}_proj`], size));
  expect(seen).toMatchObject({ ok: false, code: 'kv_out_of_range' });
  expect(seen.reason).toMatch(/^With the adapter, \d+ of \d+ keys and values are too large for int8/);
  expect(seen.reason).toMatch(/Serve this base with --kv f32$/);
  expect(seen.kv!.clipped).toBeGreaterThan(0);
  expect(seen.kv!.kl).toBeGreaterThan(0.01);
});

it('accepts the same adapter with float32 keys and values', async () => {
  const f32 = await opened('f32');
  const seen = await f32.verify('large', adapterOf(['v_proj'], 3));
  expect(seen).toMatchObject({ ok: true, reason: null });
  expect(seen.kv).toBeUndefined();
  await close(f32);
});

it('counts the keys and values of every chunk, whether it is kept or not', async () => {
  const { engine, tiny, source } = int8;
  const { bytes, digest } = await tiny.file('large', adapterOf(['v_proj'], 3));
  source.files.set(digest, bytes);
  const count = async (tokens: number): Promise<{ clipped: number; values: number }> => {
    const { runner } = tiny;
    const added = await engine.add({
      ...{ id: 'r', tenant: 'alice', chain: [{ digest, scale: 1 }], promptLogprobs: null, budgetMs: null },
      prompt: Array.from({ length: tokens }, (_, at) => 1 + ((at * 7) % 50)),
      sampling: { ...GREEDY, maxTokens: 1, ignoreEos: true },
      countsClipped: true,
    });
    if (!added.ok) throw new Error(added.error.message);
    for await (const event of added.value.events)
      if (event.kind === 'clipped')
        return { clipped: event.clipped, values: (event.values * 128) / runner.blockBytes };
    throw new Error('nothing was counted');
  };
  const shorter = await count(127);
  expect(shorter.values).toBe(127);
  for (const tokens of [128, 128, 129, 256]) {
    const { clipped, values } = await count(tokens);
    expect(values).toBe(tokens);
    expect(clipped).toBeGreaterThanOrEqual(shorter.clipped);
  }
  expect(engine.stats().prefixBytes).toBeGreaterThan(0);
});
