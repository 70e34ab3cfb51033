/** A base's configuration as text, for who runs its graphs elsewhere. */
import { z } from 'zod';
import { BaseModelError, checkConfig, type LlamaConfig } from './base-model.ts';

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
