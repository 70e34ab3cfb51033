import { type AdapterErrorCode, AdapterFormatError, printable } from '../errors.ts';
import { convertTensor, type LoraModule, makeLoraModule } from './lora-module.ts';
import { type Tensor, toFloat32 } from './dtype.ts';
import type { SafetensorsFile } from './safetensors.ts';

/**
 * Names in kohya style (kohya-ss sd-scripts `networks/lora.py`, LyCORIS): a module's path with its dots made
 * underscores, behind a prefix, or the dotted path itself; then `.lora_down.weight`, `.lora_up.weight`, `.alpha`.
 */
type KohyaPart = 'down' | 'up' | 'alpha';
const SUFFIXES: readonly (readonly [suffix: string, part: KohyaPart])[] = [
  ['.lora_down.weight', 'down'],
  ['.lora_up.weight', 'up'],
  ['.alpha', 'alpha'],
];
const PEFT_PREFIX = 'base_model.model.';

/**
 * Underscores are ambiguous in general (`self_attn` has one), so only the linear layers of a Llama are known.
 * `lora_` is kohya's prefix, `lycoris_` LyCORIS's; prefixes of image models are refused before.
 */
const LLAMA_PATH =
  /^(?:lora_|lycoris_)?(?:model_)?layers_(0|[1-9]\d{0,3})_(?:self_attn_([qkvo]_proj)|mlp_((?:gate|up|down)_proj))$/;

/** First match decides. */
const REFUSED: readonly (readonly [pattern: RegExp, code: AdapterErrorCode, why: string])[] = [
  [
    /^(?:lora_unet_|lora_te\d*_|lora_prior_|(?:unet|text_encoders?|text_encoder_\d|diffusion_model|cond_stage_model|vae)\.)/,
    'image_lora',
    'belongs to an image model (its denoiser or text encoder). Only adapters of language models are ' +
      'supported.',
  ],
  [/\.dora_scale$/, 'dora', 'belongs to DoRA, which is not a plain delta. Train without it.'],
  [
    /\.(?:lora_mid\.weight|hada_[wt][12](?:_[ab])?|lokr_[wt][12](?:_[ab])?|oft_(?:blocks|diag)|glora_[ab]\d?|diff|diff_b|w_norm|b_norm)$/,
    'lycoris',
    "belongs to LyCORIS's LoHa, LoKr, OFT or another method that is not a product of two matrices. " +
      'Train a plain LoRA.',
  ],
];

/** @returns the code and the rest of a sentence that begins with the tensor; null for an accepted name. */
export function refusedKohyaName(key: string): { code: AdapterErrorCode; why: string } | null {
  const known = REFUSED.find(([pattern]) => pattern.test(key));
  return known ? { code: known[1], why: known[2] } : null;
}

/** @returns the part before the suffix, and which tensor it is; null without such a suffix. */
function splitKohyaName(key: string): { stem: string; part: KohyaPart } | null {
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

type Refuse = (code: AdapterErrorCode, message: string, subject?: string) => never;

interface KohyaModule {
  down?: Tensor;
  up?: Tensor;
  alpha?: number;
}

/**
 * The only number of a tensor; kohya writes alpha as a scalar, with an integer type if it was given as an
 * integer.
 */
function readScalar(tensor: Tensor, key: string, refuse: Refuse): number {
  if (tensor.shape.reduce((product, size) => product * size, 1) !== 1)
    return refuse(
      'shape_invalid',
      `Tensor "${printable(key)}" has the shape [${tensor.shape.join(', ')}]; an alpha is one number.`,
      key,
    );
  const { dtype, data } = tensor;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (dtype === 'I64') return Number(view.getBigInt64(0, true));
  if (dtype === 'I32') return view.getInt32(0, true);
  if (dtype === 'F64') return view.getFloat64(0, true);
  if (dtype === 'F32' || dtype === 'F16' || dtype === 'BF16') return toFloat32(tensor)[0] as number;
  return refuse(
    'dtype_unsupported',
    `Tensor "${printable(key)}" is ${dtype}; save alpha as F32, F16 or BF16.`,
    key,
  );
}

function collect(file: SafetensorsFile, refuse: Refuse): Map<string, KohyaModule> {
  const found = new Map<string, KohyaModule>();
  for (const [key, tensor] of file.tensors) {
    const shown = printable(key);
    const refused = refusedKohyaName(key);
    if (refused !== null) refuse(refused.code, `Tensor "${shown}" ${refused.why}`, key);
    const split = splitKohyaName(key);
    if (split === null)
      return refuse(
        'unknown_tensor',
        `Tensor "${shown}" is not named .lora_down.weight, .lora_up.weight or .alpha, like the others. ` +
          'Save the adapter alone.',
        key,
      );
    const name = kohyaModuleName(split.stem);
    if (name === null)
      return refuse(
        'name_ambiguous',
        `Tensor "${shown}": the underscores in "${printable(split.stem)}" do not tell which module it ` +
          'is. Use the dotted path (model.layers.0.self_attn.q_proj.lora_down.weight).',
        key,
      );
    if (split.part !== 'alpha' && tensor.shape.length > 2)
      refuse(
        'image_lora',
        `Tensor "${shown}" [${tensor.shape.join(', ')}] belongs to a convolution; only linear layers ` +
          'of language models are supported.',
        key,
      );
    const module = found.get(name) ?? {};
    if (module[split.part] !== undefined)
      refuse(
        'duplicate_module',
        `${printable(name)} has more than one lora_${split.part}. Save one adapter per file.`,
        key,
      );
    if (split.part === 'alpha') module.alpha = readScalar(tensor, key, refuse);
    else module[split.part] = tensor;
    found.set(name, module);
  }
  return found;
}

/**
 * Reads an adapter in kohya style: `lora_down` is A [rank, in], `lora_up` is B [out, rank], the scale alpha /
 * rank, and a missing alpha is the rank (kohya-ss sd-scripts `networks/lora.py`, `LoRAModule`).
 * @throws AdapterFormatError for anything but a plain delta of linear layers with unambiguous names.
 */
export function readKohyaAdapter(params: { file: SafetensorsFile; weightsPath: string }): {
  baseModel: null;
  modules: LoraModule[];
  warnings: string[];
} {
  const path = params.weightsPath;
  const refuse: Refuse = (code, message, subject) => {
    throw new AdapterFormatError({ code, message, path, subject });
  };
  const modules: LoraModule[] = [];
  let withoutAlpha = 0;
  for (const [name, { down, up, alpha }] of collect(params.file, refuse)) {
    if (!down || !up)
      return refuse(
        'missing_pair',
        `${printable(name)}: lora_${down ? 'up' : 'down'} is missing from the file. Save the adapter again.`,
        name,
      );
    const where = { name, path };
    const [a, b] = [down, up].map((side) =>
      side.dtype === 'F64' ? convertTensor(side, 'F32', where) : side,
    );
    const rank = down.shape[0] ?? 0;
    if (alpha === undefined) withoutAlpha++;
    modules.push(makeLoraModule({ name, rank, alpha: alpha ?? rank, a: a!, b: b!, path }));
  }
  if (modules.length === 0)
    refuse('empty_adapter', 'The file has no LoRA tensors. Check that the adapter was saved, not the base.');
  modules.sort((x, y) => (x.name < y.name ? -1 : 1));
  const warnings =
    withoutAlpha === 0
      ? []
      : [
          `${withoutAlpha} of ${modules.length} modules have no alpha; using their rank, which is a scale of 1.`,
        ];
  return { baseModel: null, modules, warnings };
}
