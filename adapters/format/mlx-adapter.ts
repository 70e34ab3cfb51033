/**
 * Adapters of mlx-lm: `adapters.safetensors` with `<module>.lora_a` [in, rank] and `<module>.lora_b` [rank, out], both
 * the other way round than PEFT's, and `adapter_config.json` with the command line's settings. The scale is written
 * literally (mlx_lm `tuner/lora.py`, `LoRALinear`: y + scale * (x A) B).
 */
import { z } from 'zod';
import { type AdapterErrorCode, AdapterFormatError, printable } from '../errors.ts';
import type { Tensor } from './dtype.ts';
import { type LoraModule, makeLoraModule, turned } from './lora-module.ts';
import type { SafetensorsFile } from './safetensors.ts';
import type { JsonObject } from './strict-json.ts';

type Refuse = (code: AdapterErrorCode, message: string, subject?: string) => never;

const Config = z.object({
  model: z.string().nullish(),
  fine_tune_type: z.string().nullish(),
  use_dora: z.boolean().nullish(),
  lora_parameters: z.map(z.string(), z.unknown()),
});
const LoraParameters = z.object({
  rank: z.int().positive(),
  scale: z.number(),
  alpha: z.number().nullish(),
});

const LEAF_A = '.lora_a';
const LEAF_B = '.lora_b';
/** Last parts of embeddings' paths in the models that mlx-lm has. */
const EMBEDDING = /(?:^|\.)(?:embed_tokens|wte|embed_in|tok_embeddings|word_embeddings)$/;
/** Other tensors in mlx-lm's files; first match decides. */
const REFUSED: readonly (readonly [pattern: RegExp, code: AdapterErrorCode, why: string])[] = [
  [/\.m$/, 'dora', 'belongs to DoRA, which is not a plain delta. Train with fine_tune_type lora.'],
  [
    /^(?!.*\.lora_).*\.(?:weight|bias|scales|biases)$/,
    'full_weight',
    'is a weight of the model itself, not a delta. Train with fine_tune_type lora, and do not fuse.',
  ],
];

function parseWith<T>(schema: z.ZodType<T>, config: JsonObject, prefix: string, refuse: Refuse): T {
  const parsed = schema.safeParse(Object.fromEntries(config));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const key = [prefix, ...(issue?.path ?? []).map(String)].filter((part) => part !== '').join('.');
  return refuse(
    'config_invalid',
    `${printable(key)}: ${printable(issue?.message ?? 'invalid')}. Correct that setting.`,
    key,
  );
}

/** @returns the base, the rank and the scale of all modules. */
function readConfig(config: JsonObject, refuse: Refuse) {
  const type = config.get('fine_tune_type');
  if (type === 'dora' || config.get('use_dora') === true)
    refuse(
      'dora',
      "DoRA rescales the base's weights, which are shared. Train with fine_tune_type lora.",
      type === 'dora' ? 'fine_tune_type' : 'use_dora',
    );
  if (type === 'full')
    refuse(
      'full_weight',
      'fine_tune_type is "full": whole weights were trained, not an adapter. Train with fine_tune_type lora.',
      'fine_tune_type',
    );
  if (type !== undefined && type !== null && type !== 'lora')
    refuse(
      'not_lora',
      `fine_tune_type is ${printable(JSON.stringify(type))}; only "lora" is supported.`,
      'fine_tune_type',
    );
  const { model, lora_parameters } = parseWith(Config, config, '', refuse);
  const { rank, scale, alpha } = parseWith(
    LoraParameters,
    lora_parameters as JsonObject,
    'lora_parameters',
    refuse,
  );
  // Until June 2024 mlx-lm multiplied the scale by alpha / rank; since then it ignores alpha, which stayed among the
  // defaults until April 2025. `num_layers` and `fine_tune_type` are of September 2024 and later.
  const literal = config.has('num_layers') || config.has('fine_tune_type');
  if (!literal && typeof alpha === 'number' && alpha !== rank)
    refuse(
      'scale_ambiguous',
      `lora_parameters has alpha ${alpha}, which mlx-lm multiplied into the scale before June 2024 and has ignored ` +
        `since. Remove alpha if the adapter is newer; otherwise remove it and set scale to ${(scale * alpha) / rank}.`,
      'lora_parameters.alpha',
    );
  return { baseModel: model ?? null, rank, scale };
}

/** @returns A and B of each module in PEFT's layout, sorted by module. */
function readPairs(file: SafetensorsFile, refuse: Refuse): { name: string; a: Tensor; b: Tensor }[] {
  const found = new Map<string, { a?: Tensor; b?: Tensor }>();
  for (const [key, tensor] of file.tensors) {
    const shown = printable(key);
    const side = key.endsWith(LEAF_A) ? 'a' : key.endsWith(LEAF_B) ? 'b' : undefined;
    if (side === undefined) {
      const known = REFUSED.find(([pattern]) => pattern.test(key));
      if (known) refuse(known[1], `Tensor "${shown}" ${known[2]}`, key);
      return refuse(
        'unknown_tensor',
        `Tensor "${shown}" is not named like mlx-lm's (<module>.lora_a, <module>.lora_b). Save the ` +
          'adapter with mlx-lm.',
        key,
      );
    }
    const name = key.slice(0, -LEAF_A.length);
    if (EMBEDDING.test(name))
      refuse(
        'embedding_lora',
        `Tensor "${shown}" adapts an embedding, which mlx-lm applies to the head too where both share their ` +
          'weights. Leave it out of lora_parameters.keys, or train it with PEFT.',
        key,
      );
    if (tensor.shape.length === 3)
      refuse(
        'expert_lora',
        `Tensor "${shown}" [${tensor.shape.join(', ')}] adapts the experts of a mixture. Leave them ` +
          'out of lora_parameters.keys.',
        key,
      );
    const pair = found.get(name) ?? {};
    pair[side] = tensor;
    found.set(name, pair);
  }
  if (found.size === 0)
    refuse('empty_adapter', 'The file has no LoRA tensors. Check that the adapter was saved, not the base.');
  const pairs: { name: string; a: Tensor; b: Tensor }[] = [];
  for (const [name, { a, b }] of found) {
    if (!a || !b)
      return refuse(
        'missing_pair',
        `${printable(name)}: lora_${a ? 'b' : 'a'} is missing from the file. Save the adapter again.`,
        name,
      );
    pairs.push({ name, a, b });
  }
  return pairs.sort((x, y) => (x.name < y.name ? -1 : 1));
}

/** @throws AdapterFormatError for everything that is not a plain delta of linear layers. */
export function readMlxAdapter(params: {
  file: SafetensorsFile;
  config: JsonObject;
  weightsPath: string;
  configPath: string;
}): { baseModel: string | null; modules: LoraModule[]; warnings: string[] } {
  const refuseIn =
    (path: string): Refuse =>
    (code, message, subject) => {
      throw new AdapterFormatError({ code, message, path, subject });
    };
  const { baseModel, rank, scale } = readConfig(params.config, refuseIn(params.configPath));
  const modules = readPairs(params.file, refuseIn(params.weightsPath)).map(({ name, a, b }) =>
    makeLoraModule({
      name,
      rank,
      alpha: scale * rank,
      a: turned(a),
      b: turned(b),
      path: params.weightsPath,
    }),
  );
  return { baseModel, modules, warnings: [] };
}
