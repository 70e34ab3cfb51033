/**
 * LoRA adapters in GGUF, as llama.cpp's `convert_lora_to_gguf.py` writes and its `llama-adapter.cpp` reads them:
 * `<layer>.weight.lora_a` [rank, in] and `.lora_b` [out, rank], one alpha for all, scale = alpha / rank of each pair.
 */
import { AdapterFormatError, printable, type AdapterErrorCode } from '../errors.ts';
import { toFloat32, type Dtype, type Tensor } from './dtype.ts';
import { parseGgufHeader, type GgufHeader, type GgufTensor, type GgufValue } from './gguf-container.ts';
import { ggufKinds, moduleOfGguf, ROWS_PERMUTED, rotaryHeads } from './gguf-names.ts';
import { GGML_TYPES } from './gguf-types.ts';
import { makeLoraModule, type LoraModule } from './lora-module.ts';
import { isHeads, unpermuteRows, type AttentionShape } from './rope-rows.ts';
import { MAX_ADAPTER_TENSORS, MAX_HEADER_BYTES } from './safetensors.ts';

/** An adapter's metadata has about ten values; a tokenizer's, which it does not need, 100,000 and more. */
const MAX_VALUES = 65_536;
const SUFFIX = /^(.*)\.lora_([ab])$/;
const Q8_0_ELEMENTS = 32;
const Q8_0_BYTES = 34;

/** By the layer's name in GGUF; first match decides. */
const REFUSED: readonly (readonly [pattern: RegExp, code: AdapterErrorCode, why: string])[] = [
  [/^token_embd\./, 'embedding_lora', 'adapts the embedding; train without it in target_modules.'],
  [/^output\./, 'module_unknown', 'adapts the head, which cannot be adapted; train without lm_head.'],
  [/_exps\./, 'expert_lora', 'adapts experts, which are not supported; target linear modules.'],
];

type Refuse = (code: AdapterErrorCode, message: string, subject?: string) => never;

const A_MODEL =
  'it is a model, not an adapter. Give the file that convert_lora_to_gguf.py wrote, or serve the model as a base with --base.';

/** Blocks of a float16 scale and 32 signed bytes (ggml `block_q8_0`). */
function dequantizeQ8(data: Uint8Array): Uint8Array {
  const blocks = data.byteLength / Q8_0_BYTES;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const halves = new Uint8Array(blocks * 2);
  for (let block = 0; block < blocks; block++)
    halves.set(data.subarray(block * Q8_0_BYTES, block * Q8_0_BYTES + 2), block * 2);
  const scales = toFloat32({ dtype: 'F16', shape: [blocks], data: halves });
  const out = new Float32Array(blocks * Q8_0_ELEMENTS);
  for (let i = 0; i < out.length; i++) {
    const block = Math.floor(i / Q8_0_ELEMENTS);
    out[i] = view.getInt8(block * Q8_0_BYTES + 2 + (i % Q8_0_ELEMENTS)) * scales[block]!;
  }
  return new Uint8Array(out.buffer);
}

/** F32, F16 and BF16 stay views into the file; Q8_0, which the converter can write too, becomes F32. */
function toTensor(entry: GgufTensor, bytes: Uint8Array, refuse: Refuse): Tensor {
  const data = bytes.subarray(entry.offset, entry.offset + entry.bytes);
  const name = GGML_TYPES.get(entry.type)?.name ?? '';
  // Writers in C drop the outer size of a matrix with one row: A of rank 1.
  const shape = entry.shape.length === 1 ? [1, ...entry.shape] : entry.shape;
  if (name === 'F32' || name === 'F16' || name === 'BF16')
    return { dtype: name satisfies Dtype, shape, data };
  if (name === 'Q8_0') return { dtype: 'F32', shape, data: dequantizeQ8(data) };
  return refuse(
    'dtype_unsupported',
    `Tensor "${printable(entry.name)}" is ${name}; convert the adapter with --outtype f32, f16, bf16 or q8_0.`,
    entry.name,
  );
}

interface Pair {
  a?: GgufTensor;
  b?: GgufTensor;
}

/** @returns pairs by module, and the layer's name in GGUF. */
function pairUp(header: GgufHeader, architecture: string, refuse: Refuse): Map<string, Pair> {
  const pairs = new Map<string, Pair>();
  for (const [name, tensor] of header.tensors) {
    const [, layer = name, side] = SUFFIX.exec(name) ?? [];
    const shown = `Tensor "${printable(name)}"`;
    const known = REFUSED.find(([pattern]) => pattern.test(layer));
    if (known) return refuse(known[1], `${shown} ${known[2]}`, name);
    if (side === undefined)
      return refuse(
        name.endsWith('.weight') ? 'full_weight' : 'unknown_tensor',
        `${shown} is neither lora_a nor lora_b of a layer: llama.cpp would refuse or ignore it. ` +
          'Convert an adapter that has nothing but LoRA pairs.',
        name,
      );
    const module = moduleOfGguf(layer, architecture);
    if (module === null)
      return refuse(
        'module_unknown',
        `${shown} is for a layer that is not known; of ${architecture} ${ggufKinds(architecture).join(', ')} are.`,
        name,
      );
    const pair = pairs.get(module) ?? {};
    pair[side as 'a' | 'b'] = tensor;
    pairs.set(module, pair);
  }
  if (pairs.size === 0) refuse('empty_adapter', 'The file has no LoRA tensors.');
  return pairs;
}

/** What the metadata must say, and nothing else: a model or a control vector is also GGUF. */
function checkKind(metadata: ReadonlyMap<string, GgufValue>, refuse: Refuse): void {
  for (const [key, expected] of [
    ['general.type', 'adapter'],
    ['adapter.type', 'lora'],
  ] as const) {
    const value = metadata.get(key);
    if (value !== expected)
      refuse(
        'not_lora',
        `${key} is ${printable(JSON.stringify(value ?? null))}, not "${expected}": ` +
          (value === 'model'
            ? A_MODEL
            : 'the file is no LoRA adapter. Give the file that convert_lora_to_gguf.py wrote.'),
        key,
      );
  }
  const invocation = metadata.get('adapter.alora.invocation_tokens');
  if (invocation !== undefined && !(Array.isArray(invocation) && invocation.length === 0))
    refuse(
      'alora',
      'adapter.alora.invocation_tokens is set. aLoRA is active only from certain tokens on. Train the adapter without it.',
      'adapter.alora.invocation_tokens',
    );
}

/** @returns 0 when there is none: llama.cpp then takes every pair with a scale of 1 (`llama-adapter.h`, `get_scale`). */
function readAlpha(metadata: ReadonlyMap<string, GgufValue>, refuse: Refuse): number {
  const alpha = metadata.get('adapter.lora.alpha') ?? 0;
  return typeof alpha === 'number'
    ? alpha
    : refuse('metadata_invalid', 'adapter.lora.alpha is not a number.', 'adapter.lora.alpha');
}

/**
 * The first base model that the file names, as a hub id where it can be made out. `general.name` is the adapter's own
 * name (gguf-py `metadata.py`), so it is not looked at.
 */
function readBaseModel(metadata: ReadonlyMap<string, GgufValue>): string | null {
  const text = (key: string): string | undefined => {
    const value = metadata.get(`general.base_model.0.${key}`);
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const hub = /^https:\/\/huggingface\.co\/([^/?#]+\/[^/?#]+)\/?$/.exec(text('repo_url') ?? '')?.[1];
  if (hub !== undefined) return hub;
  // The converter makes titles of ids: "Smollm2 135M Instruct".
  const dashed = (part: string | undefined): string | undefined => part?.replaceAll(' ', '-');
  const name = dashed(text('name'));
  if (name === undefined) return null;
  const organization = dashed(text('organization'));
  return organization === undefined ? name : `${organization}/${name}`;
}

/**
 * @param options.attention the base's heads; needed where the architecture's rows of q or k are permuted.
 * @returns modules sorted by name; F32, F16 and BF16 tensors are views into `bytes` unless their rows were moved.
 * @throws AdapterFormatError for everything that is not a plain delta of linear layers; `base_needed` when q or k is
 * adapted, the architecture permutes them and `attention` is null.
 */
export function readGgufAdapter(
  bytes: Uint8Array,
  options: { path?: string | undefined; attention: AttentionShape | null },
): { baseModel: string | null; modules: LoraModule[]; warnings: string[] } {
  const { path, attention } = options;
  const refuse: Refuse = (code, message, subject) => {
    throw new AdapterFormatError({ code, message, path, subject });
  };
  const header = adapterHeader(bytes, path);
  if (header === null)
    return refuse('not_lora', `Its metadata is as large as a tokenizer makes a model's: ${A_MODEL}`);
  const { metadata } = header;
  checkKind(metadata, refuse);
  const architecture = metadata.get('general.architecture');
  const permuted = typeof architecture === 'string' ? ROWS_PERMUTED.get(architecture) : undefined;
  if (typeof architecture !== 'string' || permuted === undefined)
    return refuse(
      'architecture_unknown',
      `general.architecture is ${printable(JSON.stringify(architecture ?? null))}; known are ` +
        `${[...ROWS_PERMUTED.keys()].join(', ')}. Pack the PEFT folder that the file was made from.`,
      'general.architecture',
    );
  const alpha = readAlpha(metadata, refuse);
  const warnings =
    alpha === 0 ? ['The file has no alpha (adapter.lora.alpha), so every scale is 1, as in llama.cpp.'] : [];
  const pairs = pairUp(header, architecture, refuse);
  if (header.end < bytes.byteLength)
    refuse(
      'trailing_bytes',
      `${bytes.byteLength - header.end} bytes follow the last tensor, and nothing says what they are.`,
    );

  const modules = [...pairs].map(([name, pair]) => {
    if (!pair.a || !pair.b)
      return refuse(
        'missing_pair',
        `${printable(name)}: lora_${pair.a ? 'b' : 'a'} is missing from the file.`,
        name,
      );
    const a = toTensor(pair.a, bytes, refuse);
    const b = toTensor(pair.b, bytes, refuse);
    const rank = a.shape[0] ?? 0;
    const module = makeLoraModule({ name, rank, alpha: alpha === 0 ? rank : alpha, a, b, path });
    return permuted ? undoPermutation(module, attention, refuse) : module;
  });
  return {
    baseModel: readBaseModel(metadata),
    modules: modules.sort((x, y) => (x.name < y.name ? -1 : 1)),
    warnings,
  };
}

/** @returns null when there is more metadata than an adapter has. @throws AdapterFormatError */
function adapterHeader(bytes: Uint8Array, path: string | undefined): GgufHeader | null {
  try {
    return parseGgufHeader({
      header: bytes.subarray(0, MAX_HEADER_BYTES),
      fileBytes: bytes.byteLength,
      limits: { tensors: MAX_ADAPTER_TENSORS, values: MAX_VALUES },
      path,
    });
  } catch (error) {
    if (error instanceof AdapterFormatError && error.code === 'header_too_large') return null;
    throw error;
  }
}

function undoPermutation(module: LoraModule, attention: AttentionShape | null, refuse: Refuse): LoraModule {
  const { name, b } = module;
  if (rotaryHeads(name, { heads: 1, kvHeads: 1 }) === null) return module;
  if (attention === null)
    return refuse(
      'base_needed',
      "In a GGUF file of a Llama the rows of q and k are in another order, which depends on the base's heads: " +
        'give the base (--base).',
      name,
    );
  const heads = rotaryHeads(name, attention) as number;
  const [rows, rank] = b.shape as [number, number];
  if (!isHeads(rows, heads))
    return refuse(
      'shape_mismatch',
      `${printable(name)}: ${rows} rows of B are not ${heads} heads of an even size. Give the base that the adapter was trained on.`,
      name,
    );
  const rowBytes = b.data.byteLength / rows;
  return { ...module, b: { ...b, shape: [rows, rank], data: unpermuteRows(b.data, heads, rowBytes) } };
}
