import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { chainId } from '../../protocol/identity.ts';
import {
  checkLineage,
  composeAdapter,
  inspectAdapter,
  packAdapter,
  parseSafetensors,
  validateAdapter,
} from '../../adapters/index.ts';

const BASE = 'smollm2-135m-instruct';
const ATTENTION = { q_proj: [576, 576], k_proj: [576, 192], v_proj: [576, 192], o_proj: [576, 576] } as const;
const MLP = { gate_proj: [576, 1536], up_proj: [576, 1536], down_proj: [1536, 576] } as const;
const linears = [
  ...Object.entries(ATTENTION).map(([name, size]) => [`self_attn.${name}`, size] as const),
  ...Object.entries(MLP).map(([name, size]) => [`mlp.${name}`, size] as const),
];
/** The linear layers of SmolLM2-135M: 30 layers, hidden 576, 9 heads of 64 and 3 for keys and values, MLP 1536. */
const base = {
  id: BASE,
  digest: '0'.repeat(64),
  weights: 'int8',
  context: 2048,
  max_rank_sum: 64,
  modules: Array.from({ length: 30 }, (_, layer) =>
    linears.map(([name, [inputs, outputs]]) => ({
      name: `model.layers.${layer}.${name}`,
      in: inputs,
      out: outputs,
    })),
  ).flat(),
};

const folder = (name: string) => new URL(`../../examples/adapters/${name}/`, import.meta.url);
const files = (name: string) => ({
  configJson: readFileSync(new URL('adapter_config.json', folder(name)), 'utf8'),
  weights: new Uint8Array(readFileSync(new URL('adapter_model.safetensors', folder(name)))),
});
const pack = (name: string, parentChainId: string | null = null) =>
  packAdapter({ files: files(name), baseId: BASE, parentChainId });

describe('the example adapters', () => {
  it.each([
    ['medicine', 16, 210, 2],
    ['cardiology', 8, 210, 2],
    ['dr-lee', 4, 60, 2],
    ['intent-v1', 8, 60, 2],
    ['intent-v2', 8, 90, 16 / Math.sqrt(8)],
    ['desk', 8, 120, 2],
  ])('%s: rank %i, %i modules', async (name, rank, modules, scale) => {
    const packed = await pack(name);
    expect(validateAdapter({ adapter: packed.bytes, base })).toEqual([]);
    expect(packed.warnings).toEqual([]);
    expect(inspectAdapter(packed.bytes)).toMatchObject({ base: BASE, rank, modules, dtypes: ['BF16'] });
    for (const module of packed.modules) expect(module.scale).toBeCloseTo(scale, 12);
    const source = parseSafetensors(files(name).weights).tensors;
    for (const { name: module, a, b } of packed.modules) {
      expect(Buffer.compare(a.data, source.get(`base_model.model.${module}.lora_A.weight`)!.data)).toBe(0);
      expect(Buffer.compare(b.data, source.get(`base_model.model.${module}.lora_B.weight`)!.data)).toBe(0);
    }
  });

  it('medicine, cardiology and dr-lee are a chain', async () => {
    const chain = [];
    for (const name of ['medicine', 'cardiology', 'dr-lee']) {
      const packed = await pack(name, chain.length === 0 ? null : await chainId(chain));
      chain.push({ digest: packed.digest, scale: 1, config: packed.config, adapter: packed });
    }
    expect(await checkLineage(chain)).toBeNull();
    const composed = composeAdapter(chain);
    expect(composed.get('model.layers.7.self_attn.q_proj')).toMatchObject({ rank: 28, in: 576, out: 576 });
    expect(composed.get('model.layers.7.mlp.down_proj')).toMatchObject({ rank: 24, in: 1536, out: 576 });
    expect(composed.size).toBe(210);
  });
});
