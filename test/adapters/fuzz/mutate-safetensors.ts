/** Mutations of safetensors files that keep most of them well formed, so that they reach the rules behind the parser. */
import { anyPattern, find, mutateTree, parseTree, printTree, type JsonTree } from './json-tree.ts';
import { join, mutateValues } from './mutate-bytes.ts';
import type { Random } from './random.ts';

const MODULE = 'model.layers.0.self_attn.q_proj';
const HEADER_KEYS = [
  'dtype',
  'shape',
  'data_offsets',
  '__metadata__',
  'graft.config',
  'format',
  `${MODULE}.lora_A`,
  `${MODULE}.lora_B`,
  `${MODULE}.lora_a`,
  `${MODULE}.lora_down.weight`,
  `${MODULE}.alpha`,
  `lora_model_layers_0_self_attn_q_proj.lora_up.weight`,
  `lora_te_text_model_encoder.lora_down.weight`,
  `base_model.model.${MODULE}.lora_A.weight`,
  `base_model.model.${MODULE}.lora_B.default.weight`,
  `base_model.model.${MODULE}.lora_magnitude_vector`,
  `base_model.model.${MODULE}.weight`,
  'base_model.model.lm_head.modules_to_save.weight',
];
const CONFIG_KEYS = [
  'format',
  'base',
  'modules',
  'parent',
  'invocation',
  'rank',
  'alpha',
  MODULE,
  'a'.repeat(64),
];

const ELEMENT_BYTES: Readonly<Record<string, number>> = {
  F32: 4,
  F16: 2,
  BF16: 2,
  F64: 8,
  I64: 8,
  I32: 4,
  BOOL: 1,
  U8: 1,
};
/** A tensor that the layout is redone for; a mutated shape may ask for far more than any file has. */
const MAX_TENSOR_BYTES = 1 << 16;

const numbers = (tree: JsonTree | undefined): number[] | null =>
  tree?.kind === 'array' ? tree.items.map((item) => (item.kind === 'leaf' ? Number(item.text) : NaN)) : null;

/** Sets all offsets to what shapes and types say. @returns the bytes that the tensors then need. */
function layOut(header: JsonTree): number {
  let at = 0;
  if (header.kind !== 'object') return at;
  for (const [, entry] of header.entries) {
    const shape = numbers(find(entry, 'shape'));
    const dtype = find(entry, 'dtype');
    const offsets = find(entry, 'data_offsets');
    const element = dtype?.kind === 'leaf' ? ELEMENT_BYTES[dtype.text.slice(1, -1)] : undefined;
    if (!shape || element === undefined || offsets?.kind !== 'array') continue;
    const size = shape.reduce((product, dimension) => product * dimension, element);
    if (!(size >= 0 && size <= MAX_TENSOR_BYTES)) continue;
    offsets.items = [at, at + size].map((offset) => ({ kind: 'leaf', text: String(offset) }));
    at += size;
  }
  return at;
}

function mutateCanonicalConfig(header: JsonTree, random: Random): void {
  const text = find(find(header, '__metadata__'), 'graft.config');
  if (text?.kind !== 'leaf') return;
  let config: JsonTree;
  try {
    config = parseTree(JSON.parse(text.text) as string);
  } catch {
    return;
  }
  mutateTree(config, random, CONFIG_KEYS);
  text.text = JSON.stringify(printTree(config));
}

/** Repeats the data, or cuts it, until it has `size` bytes. */
const fitted = (data: Uint8Array, size: number): Uint8Array =>
  Uint8Array.from({ length: size }, (_, i) => data[i % Math.max(1, data.length)] ?? 0);

/** @param bytes a valid file. */
export function mutateSafetensors(bytes: Uint8Array, random: Random): Uint8Array {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
  const header = parseTree(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  let data: Uint8Array = bytes.subarray(8 + length);
  for (let count = random.chance(0.1) ? 0 : 1 + random.below(3); count > 0; count--)
    if (random.chance(0.5)) mutateCanonicalConfig(header, random);
    else mutateTree(header, random, HEADER_KEYS);
  if (random.chance(0.6)) data = fitted(data, layOut(header));
  if (random.chance(0.2)) data = mutateValues(data, random);
  const text = printTree(header);
  const padding = ' '.repeat(random.chance(0.8) ? (8 - (text.length % 8)) % 8 : random.below(9));
  const json = new TextEncoder().encode(text + padding);
  const prefix = new Uint8Array(8);
  const claimed = random.chance(0.95) ? json.length : json.length + random.pick([-1, 1, 8, 1 << 20, 1 << 30]);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(Math.max(0, claimed)), true);
  return join(prefix, json, data);
}

const PEFT_KEYS = [
  'peft_type',
  'r',
  'lora_alpha',
  'rank_pattern',
  'alpha_pattern',
  'use_rslora',
  'use_dora',
  'bias',
  'init_lora_weights',
  'modules_to_save',
  'task_type',
  'score',
  'classifier',
  'id2label',
  'problem_type',
  'target_modules',
  'fan_in_fan_out',
  'layer_replication',
  'alora_invocation_tokens',
  'base_model_name_or_path',
  'lora_parameters',
  'rank',
  'scale',
  'fine_tune_type',
  'model',
  'num_layers',
  MODULE,
  'q_proj',
];

/** @param text a valid `adapter_config.json`. */
export function mutateConfig(text: string, random: Random): string {
  const config = parseTree(text);
  for (let count = 1 + random.below(3); count > 0; count--) mutateTree(config, random, PEFT_KEYS);
  const patterns = find(config, random.pick(['rank_pattern', 'alpha_pattern']));
  if (patterns?.kind === 'object' && random.chance(0.5))
    patterns.entries.unshift([anyPattern(random), { kind: 'leaf', text: '2' }]);
  const printed = printTree(config);
  return random.chance(0.05) ? printed.slice(0, random.below(printed.length)) : printed;
}
