/**
 * Names in kohya style (kohya-ss sd-scripts `networks/lora.py`, LyCORIS): a module's path with its dots made
 * underscores, behind a prefix, or the dotted path itself; then `.lora_down.weight`, `.lora_up.weight`, `.alpha`.
 */
import type { AdapterErrorCode } from '../errors.ts';

export type KohyaPart = 'down' | 'up' | 'alpha';
const SUFFIXES: readonly (readonly [suffix: string, part: KohyaPart])[] = [
  ['.lora_down.weight', 'down'],
  ['.lora_up.weight', 'up'],
  ['.alpha', 'alpha'],
];
const PEFT_PREFIX = 'base_model.model.';

/**
 * Underscores cannot be turned back in general (`self_attn` has one of its own), so only the linear layers of a Llama
 * are known. `lora_` is kohya's prefix, `lycoris_` LyCORIS's; those of image models are refused before.
 */
const LLAMA_PATH =
  /^(?:lora_|lycoris_)?(?:model_)?layers_(0|[1-9]\d{0,3})_(?:self_attn_([qkvo]_proj)|mlp_((?:gate|up|down)_proj))$/;

/** First match decides. */
const REFUSED: readonly (readonly [pattern: RegExp, code: AdapterErrorCode, why: string])[] = [
  [
    /^(?:lora_unet_|lora_te\d*_|lora_prior_|(?:unet|text_encoders?|text_encoder_\d|diffusion_model|cond_stage_model|vae)\.)/,
    'image_lora',
    'is of an image model (its denoiser or its text encoder). Only adapters of language models can be served.',
  ],
  [/\.dora_scale$/, 'dora', 'is of DoRA, which is not a plain delta. Train without it.'],
  [
    /\.(?:lora_mid\.weight|hada_[wt][12](?:_[ab])?|lokr_[wt][12](?:_[ab])?|oft_(?:blocks|diag)|glora_[ab]\d?|diff|diff_b|w_norm|b_norm)$/,
    'lycoris',
    "is of LyCORIS's LoHa, LoKr, OFT or another method that is no product of two matrices. Train a plain LoRA.",
  ],
];

/** @returns the code and the rest of a sentence that begins with the tensor; null for a name that may be read. */
export function refusedKohyaName(key: string): { code: AdapterErrorCode; why: string } | null {
  const known = REFUSED.find(([pattern]) => pattern.test(key));
  return known ? { code: known[1], why: known[2] } : null;
}

/** @returns what comes before the suffix, and which tensor it is; null when the name has no such suffix. */
export function splitKohyaName(key: string): { stem: string; part: KohyaPart } | null {
  for (const [suffix, part] of SUFFIXES)
    if (key.endsWith(suffix)) return { stem: key.slice(0, -suffix.length), part };
  return null;
}

/** @returns the module's dotted path; null when an underscored name has no single meaning. */
export function kohyaModuleName(stem: string): string | null {
  if (stem.includes('.')) return stem.startsWith(PEFT_PREFIX) ? stem.slice(PEFT_PREFIX.length) : stem;
  const [, layer, attention, mlp] = LLAMA_PATH.exec(stem) ?? [];
  if (layer === undefined) return null;
  return `model.layers.${layer}.${attention === undefined ? `mlp.${mlp}` : `self_attn.${attention}`}`;
}
