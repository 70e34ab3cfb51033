/**
 * What is written of a base for who runs its graphs elsewhere, in a browser: its configuration as text, and the gains that
 * lie folded in its weights, which adapters are transformed with.
 */
import { z } from 'zod';
import { parseSafetensors, toFloat32, writeSafetensors } from '../../adapters/index.ts';
import { type BaseModel, BaseModelError, checkConfig, type LlamaConfig } from './base-model.ts';
import { FINAL_NORM, foldsGains, mlpNorm } from './prepare-weights.ts';

const Rope = z.strictObject({
  theta: z.number(),
  dim: z.int(),
  divisors: z
    .array(z.number())
    .transform((values) => Float32Array.from(values))
    .nullable(),
  scale: z.number(),
});

const ConfigJson = z.strictObject({
  family: z.enum(['llama', 'qwen2', 'qwen3', 'gemma3', 'smollm3', 'phi3']),
  hidden: z.int(),
  layers: z.int(),
  heads: z.int(),
  kvHeads: z.int(),
  headDim: z.int(),
  ffn: z.int(),
  vocab: z.int(),
  context: z.int(),
  rmsEpsilon: z.number(),
  rope: Rope,
  localRope: Rope.nullable(),
  attention: z.array(
    z.strictObject({ window: z.int().nullable(), rope: z.enum(['rope', 'localRope']).nullable() }),
  ),
  attentionScale: z.number().nullable(),
  tiedHead: z.boolean(),
  qkvBias: z.boolean(),
  qkNorm: z.boolean(),
  postNorms: z.boolean(),
  activation: z.enum(['silu', 'gelu_tanh']),
  embeddingScale: z.number(),
  fused: z.boolean(),
}) satisfies z.ZodType<LlamaConfig>;

export const writeConfigJson = (config: LlamaConfig): string =>
  JSON.stringify(config, (_, value: unknown) => (value instanceof Float32Array ? [...value] : value));

/** @throws BaseModelError */
export function readConfigJson(text: string): LlamaConfig {
  const parsed = ConfigJson.safeParse(JSON.parse(text));
  if (!parsed.success)
    throw new BaseModelError(`the base's configuration: ${parsed.error.issues[0]?.message}`);
  return checkConfig(parsed.data);
}

/** @returns a safetensors file of norms under Hugging Face's names; empty where none is folded. */
export function writeFoldedGains(base: BaseModel): Uint8Array<ArrayBuffer> {
  const { config } = base;
  const paths = ['input_layernorm', mlpNorm(config)];
  const names = Array.from({ length: config.layers }, (_, layer) =>
    paths.map((path) => `model.layers.${layer}.${path}.weight`),
  );
  const shape = [config.hidden];
  const tensors = (foldsGains(config) ? [...names.flat(), FINAL_NORM] : []).map((name) => {
    const data = new Uint8Array(base.tensor(name, shape).buffer);
    return [name, { dtype: 'F32' as const, shape, data }] as const;
  });
  return writeSafetensors({ tensors: new Map(tensors), metadata: new Map() });
}

/** @returns the base as far as its norms go. @throws BaseModelError for any other tensor. */
export function readFoldedGains(
  file: Uint8Array<ArrayBuffer>,
  base: Pick<BaseModel, 'id' | 'digest' | 'config'>,
): BaseModel {
  const { tensors } = parseSafetensors(file);
  return {
    ...base,
    tensor(name, shape) {
      const tensor = tensors.get(name);
      if (tensor === undefined || tensor.shape.join() !== shape.join())
        throw new BaseModelError(`${name} is not among the base's gains`);
      return toFloat32(tensor);
    },
    close: () => {},
  };
}
