/**
 * Names in PEFT's `adapter_model.safetensors` (peft `utils/save_and_load.py`): which are LoRA pairs, which are refused.
 * transformers' own `save_pretrained(…, save_peft_format=False)` leaves `base_model.model.` out.
 */
import { AdapterFormatError, printable, type AdapterErrorCode } from '../errors.ts';
import type { Tensor } from './dtype.ts';
import type { SafetensorsFile } from './safetensors.ts';

const PREFIX = 'base_model.model.';
/** `<module>.lora_A.weight`, or with the adapter's name between, as older versions wrote it. */
const PAIR = /^(.*)\.lora_(A|B)(\.[A-Za-z0-9_-]+)?\.weight$/;

/** First match decides. */
const REFUSED: readonly (readonly [pattern: RegExp, code: AdapterErrorCode, why: string])[] = [
  [
    /\.(?:lora_magnitude_vector|dora_scale$)/,
    'dora',
    'is of DoRA, which is not a plain delta. Train without use_dora.',
  ],
  [/\.lora_diag/, 'kasa', 'is of KaSA, which is not a plain delta. Train without kasa_config.'],
  [
    /\.lora_embedding_[AB]/,
    'embedding_lora',
    'adapts an embedding; only linear modules can be adapted. Train without it in target_modules.',
  ],
  [/\.lora_[AB](\.[^.]+)?\.bias$/, 'lora_bias', 'is a bias of B. Train with lora_bias false.'],
  [
    /trainable_tokens/,
    'trainable_tokens',
    'holds trained token embeddings. Train without trainable_token_indices.',
  ],
  [/\.modules_to_save\./, 'modules_to_save', 'is a whole trained module. Train without modules_to_save.'],
  [/\.bias$/, 'bias', 'is a trained bias. Train with bias "none".'],
  [
    /^(?!.*lora_).*\.weight$/,
    'full_weight',
    'is a whole weight, not a delta. Save without embeddings and heads: save_embedding_layers=False.',
  ],
];

export interface PeftPair {
  /** Module path without `base_model.model.`. */
  readonly name: string;
  readonly a: Tensor;
  readonly b: Tensor;
}

/** @returns the LoRA pairs, sorted by module. @throws AdapterFormatError */
export function readPeftPairs(file: SafetensorsFile, options: { path?: string } = {}): PeftPair[] {
  const refuse = (code: AdapterErrorCode, message: string, subject?: string): never => {
    throw new AdapterFormatError({ code, message, path: options.path, subject });
  };
  const found = new Map<string, { A?: Tensor; B?: Tensor; infix: string }>();
  let prefix: string | undefined;
  for (const [key, tensor] of file.tensors) {
    const match = PAIR.exec(key);
    const shown = printable(key);
    const own = key.startsWith(PREFIX) ? PREFIX : '';
    if (match) prefix ??= own;
    if (!match || own !== prefix) {
      const known = REFUSED.find(([pattern]) => pattern.test(key));
      if (known) refuse(known[1], `Tensor "${shown}" ${known[2]}`, key);
      return refuse(
        'unknown_tensor',
        `Tensor "${shown}" is not named as PEFT does (${PREFIX}<module>.lora_A.weight, or all without the prefix). ` +
          `Save the adapter with PEFT.`,
        key,
      );
    }
    const module = (match[1] as string).slice(own.length);
    const side = match[2] as 'A' | 'B';
    const infix = match[3] ?? '';
    const pair = found.get(module) ?? { infix };
    if (pair[side] || pair.infix !== infix)
      refuse(
        'duplicate_module',
        `${printable(module)} has more than one pair: save one adapter a file.`,
        key,
      );
    pair[side] = tensor;
    found.set(module, pair);
  }
  if (found.size === 0)
    refuse('empty_adapter', 'The file has no LoRA tensors. Check that the adapter was saved, not the base.');
  const pairs: PeftPair[] = [];
  for (const [name, { A: a, B: b }] of found) {
    if (!a || !b)
      return refuse(
        'missing_pair',
        `${printable(name)}: lora_${a ? 'B' : 'A'} is missing from the file. Save the adapter again.`,
        name,
      );
    pairs.push({ name, a, b });
  }
  return pairs.sort((x, y) => (x.name < y.name ? -1 : 1));
}
