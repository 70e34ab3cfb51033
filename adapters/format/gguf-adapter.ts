/**
 * LoRA adapters in GGUF, as llama.cpp's `convert_lora_to_gguf.py` writes and its `llama-adapter.cpp` reads
 * them: `<layer>.weight.lora_a` [rank, in] and `.lora_b` [out, rank], one alpha for all, scale = alpha / rank
 * of each pair. Also what is needed of their base: layer names, row orders, heads.
 */
import { AdapterFormatError, printable, type AdapterErrorCode } from '../errors.ts';
import { toFloat32, type Dtype, type Tensor } from './dtype.ts';
import {
  parseGgufHeader,
  type GgufHeader,
  type GgufTensor,
  type GgufValue,
  GGML_TYPES,
  type GgufLimits,
  writeGguf,
  type GgufField,
  type GgufTensorData,
} from './gguf.ts';
import { type AdapterContent, type Invocation, readInvocation } from './invocation.ts';
import { makeLoraModule, type LoraModule, textModule, toDtype, foldIntoB } from './lora-module.ts';
import { MAX_ADAPTER_TENSORS, MAX_HEADER_BYTES } from './safetensors.ts';

/** An adapter's metadata has about ten values; a tokenizer's, which it does not need, 100,000 and more. */
const MAX_VALUES = 65_536;
const SUFFIX = /^(.*)\.lora_([ab])$/;
const Q8_0_ELEMENTS = 32;
const Q8_0_BYTES = 34;

/** By the layer's name in GGUF; first match decides. */
const REFUSED: readonly (readonly [pattern: RegExp, code: AdapterErrorCode, why: string])[] = [
  [/^token_embd\./, 'embedding_lora', 'adapts the embedding; train without it in target_modules.'],
  [/^output\./, 'module_unknown', 'adapts the head, which is not supported; train without lm_head.'],
  [/_exps\./, 'expert_lora', 'adapts experts, which are not supported; target linear modules.'],
];

type Refuse = (code: AdapterErrorCode, message: string, subject?: string) => never;

const A_MODEL =
  'it is a model, not an adapter. Give the file that convert_lora_to_gguf.py wrote, or serve the model ' +
  'as a base with --base.';

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
    `Tensor "${printable(entry.name)}" is ${name}. Convert the adapter with --outtype f32, f16, bf16 ` +
      'or q8_0.',
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
          'Convert an adapter that consists of LoRA pairs only.',
        name,
      );
    const module = moduleOfGguf(layer, architecture);
    if (module === null)
      return refuse(
        'module_unknown',
        `${shown} is for an unknown layer; ${architecture} has ${ggufKinds(architecture).join(', ')}.`,
        name,
      );
    const pair = pairs.get(module) ?? {};
    pair[side as 'a' | 'b'] = tensor;
    pairs.set(module, pair);
  }
  if (pairs.size === 0) refuse('empty_adapter', 'The file has no LoRA tensors.');
  return pairs;
}

const INVOCATION = 'adapter.alora.invocation_tokens';

/** Required metadata: models and control vectors are GGUF too. */
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
            : 'the file is not a LoRA adapter. Give the file that convert_lora_to_gguf.py wrote.'),
        key,
      );
  }
}

function invocationOf(metadata: ReadonlyMap<string, GgufValue>, refuse: Refuse): Invocation {
  const value = metadata.get(INVOCATION);
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return undefined;
  return readInvocation(value, INVOCATION, refuse);
}

/**
 * @returns 0 when there is none: llama.cpp then uses a scale of 1 for every pair (`llama-adapter.h`,
 * `get_scale`).
 */
function readAlpha(metadata: ReadonlyMap<string, GgufValue>, refuse: Refuse): number {
  const alpha = metadata.get('adapter.lora.alpha') ?? 0;
  return typeof alpha === 'number'
    ? alpha
    : refuse('metadata_invalid', 'adapter.lora.alpha is not a number.', 'adapter.lora.alpha');
}

/**
 * The first base model that the file names, as a hub id if it can be recognised. `general.name` is the
 * adapter's own name (gguf-py `metadata.py`), so it is ignored.
 */
function readBaseModel(metadata: ReadonlyMap<string, GgufValue>): string | null {
  const text = (key: string): string | undefined => {
    const value = metadata.get(`general.base_model.0.${key}`);
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const hub = /^https:\/\/huggingface\.co\/([^/?#]+\/[^/?#]+)\/?$/.exec(text('repo_url') ?? '')?.[1];
  if (hub !== undefined) return hub;
  // The converter turns ids into titles: "Smollm2 135M Instruct".
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
): { baseModel: string | null; modules: LoraModule[]; invocation: Invocation; warnings: string[] } {
  const { path, attention } = options;
  const refuse: Refuse = (code, message, subject) => {
    throw new AdapterFormatError({ code, message, path, subject });
  };
  const header = adapterHeader(bytes, path);
  if (header === null)
    return refuse('not_lora', `Its metadata is as large as that of a model with a tokenizer: ${A_MODEL}`);
  const { metadata } = header;
  checkKind(metadata, refuse);
  const architecture = metadata.get('general.architecture');
  const permuted = typeof architecture === 'string' ? ROWS_PERMUTED.get(architecture) : undefined;
  if (typeof architecture !== 'string' || permuted === undefined)
    return refuse(
      'architecture_unknown',
      `general.architecture is ${printable(JSON.stringify(architecture ?? null))}; supported are ` +
        `${[...ROWS_PERMUTED.keys()].join(', ')}. Pack the PEFT folder that the file was made from.`,
      'general.architecture',
    );
  const alpha = readAlpha(metadata, refuse);
  const warnings =
    alpha === 0 ? ['The file has no alpha (adapter.lora.alpha), so every scale is 1, as in llama.cpp.'] : [];
  const pairs = pairUp(header, architecture, refuse);
  if (header.end < bytes.byteLength)
    refuse('trailing_bytes', `${bytes.byteLength - header.end} unexplained bytes follow the last tensor.`);

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
    invocation: invocationOf(metadata, refuse),
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
      "In a Llama GGUF file, the rows of q and k are in a different order, which depends on the base's " +
        'heads. Give the base (--base).',
      name,
    );
  const heads = rotaryHeads(name, attention) as number;
  const [rows, rank] = b.shape as [number, number];
  if (!isHeads(rows, heads))
    return refuse(
      'shape_mismatch',
      `${printable(name)}: ${rows} rows of B do not divide into ${heads} heads of an even size. Give ` +
        'the base that the adapter was trained on.',
      name,
    );
  const rowBytes = b.data.byteLength / rows;
  return { ...module, b: { ...b, shape: [rows, rank], data: unpermuteRows(b.data, heads, rowBytes) } };
}

/** ggml_type and, for the whole file, llama_ftype. */
const TYPES = { F32: { ggml: 0, file: 0 }, F16: { ggml: 1, file: 1 } } as const;

function refuse(code: AdapterErrorCode, message: string, subject?: string): never {
  throw new AdapterFormatError({ code, message, subject });
}

/** The alpha of most modules, so that most tensors need no change; the smallest of equally frequent ones. */
function commonAlpha(modules: readonly LoraModule[]): number {
  const counts = new Map<number, number>();
  for (const { alpha } of modules) counts.set(alpha, (counts.get(alpha) ?? 0) + 1);
  const [best] = [...counts].sort(([x, m], [y, n]) => n - m || x - y);
  return best?.[0] ?? 0;
}

function bRows(module: LoraModule, architecture: string, attention: AttentionShape | null): LoraModule {
  const { name, b } = module;
  if (ROWS_PERMUTED.get(architecture) !== true || rotaryHeads(name, { heads: 1, kvHeads: 1 }) === null)
    return module;
  if (attention === null)
    return refuse(
      'base_needed',
      "In a Llama GGUF file, the rows of q and k are in a different order, which depends on the base's " +
        'heads. Give the base (--base).',
      name,
    );
  const heads = rotaryHeads(name, attention) as number;
  const [rows] = b.shape as [number, number];
  if (!isHeads(rows, heads))
    return refuse(
      'shape_mismatch',
      `${printable(name)}: ${rows} rows of B do not divide into ${heads} heads of an even size. Give ` +
        'the base that the adapter was trained on.',
      name,
    );
  return { ...module, b: { ...b, data: permuteRows(b.data, heads, b.data.byteLength / rows) } };
}

/**
 * llama.cpp multiplies by alpha / rank of each pair with one alpha for the file, so a module with another alpha has the
 * quotient of the two put into its B: exact for powers of two, else each entry is off by at most 2^-24 of itself
 * ({@link foldIntoB}). alpha itself is a float32 in the file, which can be off by as much.
 * @param params.attention the base's heads, needed when q or k of a Llama is adapted.
 * @param params.architecture llama.cpp's name of the base's architecture, `llama` by default.
 * @param params.baseModel hub id or name, for the reader of the file; null = unknown.
 * @param params.dtype F32 unless given; F16 rounds to nearest even.
 * @param params.invocation of an activated adapter; absent = it acts on every token.
 * @returns the same bytes for the same modules in whatever order.
 * @throws AdapterFormatError `module_unknown` for a module that has no name in GGUF, `architecture_unknown`,
 * `base_needed`, `shape_mismatch`, `empty_adapter`, or `non_finite` when a value does not fit the type.
 */
export function writeGgufAdapter(
  params: AdapterContent & {
    attention: AttentionShape | null;
    baseModel: string | null;
    dtype?: 'F32' | 'F16';
    architecture?: string;
  },
): Uint8Array<ArrayBuffer> {
  const { attention, baseModel, dtype = 'F32', architecture = 'llama' } = params;
  if (!ROWS_PERMUTED.has(architecture))
    refuse(
      'architecture_unknown',
      `GGUF adapters of the architecture "${printable(architecture)}" cannot be written; supported are ` +
        `${[...ROWS_PERMUTED.keys()].join(', ')}.`,
      architecture,
    );
  if (params.modules.length === 0) refuse('empty_adapter', 'The adapter has no modules.');
  if (params.classifier !== undefined)
    refuse(
      'classifier_unsupported',
      'The adapter has a classification head, which GGUF adapters cannot hold. Write it as PEFT.',
      'classifier',
    );
  const named = params.modules.map((module) => {
    const name = ggufOfModule(module.name, architecture);
    return name === null
      ? refuse(
          'module_unknown',
          `${printable(module.name)} has no name in GGUF: in ${architecture}, only the linear layers ` +
            `${ggufKinds(architecture).join(', ')} have one. Write the adapter as PEFT.`,
          module.name,
        )
      : ([name, module] as const);
  });
  named.sort(([x], [y]) => (x < y ? -1 : 1));

  const alpha = commonAlpha(params.modules);
  const stored = Math.fround(alpha);
  const tensors = named.flatMap(([name, module]): GgufTensorData[] => {
    const b = foldIntoB(module, module.alpha === alpha ? 1 : module.alpha / stored);
    const plain: LoraModule = {
      ...module,
      a: { ...module.a, dtype: 'F32', data: new Uint8Array(toFloat32(module.a).buffer) },
      b: { ...module.b, dtype: 'F32', data: new Uint8Array(b.buffer) },
    };
    const [typed = plain] = dtype === 'F32' ? [] : toDtype([plain], dtype);
    const ordered = bRows(typed, architecture, attention);
    const type = TYPES[dtype].ggml;
    return [
      { name: `${name}.lora_a`, shape: ordered.a.shape, type, data: ordered.a.data },
      { name: `${name}.lora_b`, shape: ordered.b.shape, type, data: ordered.b.data },
    ];
  });
  const metadata = describe(architecture, stored, baseModel, TYPES[dtype].file);
  if (params.invocation !== undefined) metadata.set(INVOCATION, { type: 'u32s', value: params.invocation });
  return writeGguf({ metadata, tensors });
}

function describe(
  architecture: string,
  alpha: number,
  baseModel: string | null,
  fileType: number,
): Map<string, GgufField> {
  const text = (value: string): GgufField => ({ type: 'string', value });
  const metadata = new Map<string, GgufField>([
    ['general.architecture', text(architecture)],
    ['general.type', text('adapter')],
    ['adapter.type', text('lora')],
    ['adapter.lora.alpha', { type: 'f32', value: alpha }],
    ['general.file_type', { type: 'u32', value: fileType }],
  ]);
  if (baseModel === null) return metadata;
  metadata.set('general.base_model.count', { type: 'u32', value: 1 });
  const [, organization, name = baseModel] = /^([\w.-]+)\/([\w.-]+)$/.exec(baseModel) ?? [];
  metadata.set('general.base_model.0.name', text(name));
  if (organization !== undefined) {
    metadata.set('general.base_model.0.organization', text(organization));
    metadata.set('general.base_model.0.repo_url', text(`https://huggingface.co/${baseModel}`));
  }
  return metadata;
}

/** Names of the Llama family's linear layers in GGUF and in Hugging Face's models (gguf-py `tensor_mapping.py`). */
const KINDS: readonly (readonly [gguf: string, huggingFace: string])[] = [
  ['attn_q', 'self_attn.q_proj'],
  ['attn_k', 'self_attn.k_proj'],
  ['attn_v', 'self_attn.v_proj'],
  ['attn_output', 'self_attn.o_proj'],
  ['ffn_gate', 'mlp.gate_proj'],
  ['ffn_up', 'mlp.up_proj'],
  ['ffn_down', 'mlp.down_proj'],
];
/** Phi-3 has q, k and v in one linear, gate and up in another, which GGUF calls `ffn_up` alone; GLM the latter. */
const FUSED_KINDS: readonly (readonly [gguf: string, huggingFace: string])[] = [
  ['attn_qkv', 'self_attn.qkv_proj'],
  ['attn_output', 'self_attn.o_proj'],
  ['ffn_up', 'mlp.gate_up_proj'],
  ['ffn_down', 'mlp.down_proj'],
];
const GLM_KINDS = [
  ...KINDS.filter(([, name]) => name.startsWith('self_attn.')),
  ...FUSED_KINDS.filter(([, name]) => name.startsWith('mlp.')),
];
const OTHER_KINDS: ReadonlyMap<string, typeof KINDS> = new Map([
  ['phi3', FUSED_KINDS],
  ['glm4', GLM_KINDS],
  ['chatglm', GLM_KINDS],
]);
const kindsOf = (architecture: string) => OTHER_KINDS.get(architecture) ?? KINDS;

/** @returns GGUF's names of an architecture's linear layers, without the layer. */
export const ggufKinds = (architecture: string): string[] => kindsOf(architecture).map(([gguf]) => gguf);
/** Of models that also see, by what is their text's alone. Gemma 3's may be either, and is then one of text. */
const SEEING: ReadonlySet<string> = new Set(['mistral3', 'qwen2vl', 'qwen3vl']);
const LAYER = '(0|[1-9][0-9]{0,4})';
const GGUF_LINEAR = new RegExp(`^blk\\.${LAYER}\\.([a-z_]+)\\.weight$`);
const MODULE = new RegExp(`^model\\.layers\\.${LAYER}\\.([a-z_]+\\.[a-z_]+)$`);

/**
 * @param name `blk.0.attn_q.weight`. @param architecture one of {@link ROWS_PERMUTED}.
 * @returns `model.layers.0.self_attn.q_proj`, or below `model.language_model` in a model that also sees; null for an
 * unknown layer.
 */
export function moduleOfGguf(name: string, architecture: string): string | null {
  const match = GGUF_LINEAR.exec(name);
  const kind = kindsOf(architecture).find(([gguf]) => gguf === match?.[2])?.[1];
  const text = SEEING.has(architecture) ? 'model.language_model' : 'model';
  return kind === undefined ? null : `${text}.layers.${match?.[1]}.${kind}`;
}

/** The inverse of {@link moduleOfGguf}; null for a module that has no name in GGUF. */
export function ggufOfModule(module: string, architecture: string): string | null {
  const match = MODULE.exec(textModule(module));
  const kind = kindsOf(architecture).find(([, name]) => name === match?.[2])?.[0];
  return kind === undefined ? null : `blk.${match?.[1]}.${kind}.weight`;
}

/**
 * Architectures (`general.architecture`) whose linear layers carry the names above, and whether the rows of q
 * and k are in another order than Hugging Face's (`undo_permute` in llama.cpp's `conversion/`). Others are
 * unverified.
 */
export const ROWS_PERMUTED: ReadonlyMap<string, boolean> = new Map([
  ['llama', true],
  ['granite', true],
  ['mistral3', true],
  ['smollm3', true],
  ['qwen2', false],
  ['qwen2vl', false],
  ['qwen3', false],
  ['qwen3vl', false],
  ['qwen3moe', false],
  ['gemma', false],
  ['gemma2', false],
  ['gemma3', false],
  ['gemma4', false],
  ['olmo2', false],
  ['glm4', false],
  ['chatglm', false],
  ['phi3', false],
]);

/** Heads whose rows are permuted in a Llama's module; null where rows stay as they are. */
export const rotaryHeads = (
  module: string,
  attention: { readonly heads: number; readonly kvHeads: number },
): number | null =>
  module.endsWith('.q_proj') ? attention.heads : module.endsWith('.k_proj') ? attention.kvHeads : null;

/** Heads of the base's attention. */
export interface AttentionShape {
  readonly heads: number;
  /** Heads of k and v; fewer than `heads` under grouped-query attention. */
  readonly kvHeads: number;
}

/** Whether `rows` rows are whole heads of an even size, as rotary positions require. */
export const isHeads = (rows: number, heads: number): boolean =>
  Number.isInteger(heads) && heads > 0 && rows % (2 * heads) === 0;

/**
 * llama.cpp stores the rows of q and k of a Llama for interleaved rotary positions: per head, rows `[headDim/2, 2]`
 * where Hugging Face has `[2, headDim/2]` (llama.cpp `conversion/llama.py`, `LlamaModel.permute`). B of an adapter has
 * its rows in the order of the layer's.
 * Per head, from `[outer, inner]` to `[inner, outer]`; rows are moved as bytes, so any type may be in them.
 */
function transposeRows(
  rows: Uint8Array,
  heads: number,
  rowBytes: number,
  outerOf: (headDim: number) => number,
): Uint8Array<ArrayBuffer> {
  const headDim = rows.byteLength / rowBytes / heads;
  const outer = outerOf(headDim);
  const inner = headDim / outer;
  const out = new Uint8Array(rows.byteLength);
  for (let head = 0; head < heads; head++)
    for (let i = 0; i < outer; i++)
      for (let j = 0; j < inner; j++) {
        const from = (head * headDim + i * inner + j) * rowBytes;
        out.set(rows.subarray(from, from + rowBytes), (head * headDim + j * outer + i) * rowBytes);
      }
  return out;
}

/**
 * Hugging Face's order to GGUF's.
 * @param rows `[heads * headDim, rowBytes]`, headDim even ({@link isHeads}). @returns a new array.
 */
export const permuteRows = (rows: Uint8Array, heads: number, rowBytes: number): Uint8Array<ArrayBuffer> =>
  transposeRows(rows, heads, rowBytes, () => 2);

/** GGUF's order to Hugging Face's; the inverse of {@link permuteRows}, with the same parameters. */
export const unpermuteRows = (rows: Uint8Array, heads: number, rowBytes: number): Uint8Array<ArrayBuffer> =>
  transposeRows(rows, heads, rowBytes, (headDim) => headDim / 2);

/** The largest vocabularies have 256k tokens, each with a score, a type and up to two merges. */
export const GGUF_BASE_LIMITS: GgufLimits = { tensors: 100_000, values: 16_777_216 };

export interface GgufBaseShape {
  /** llama.cpp's name of the architecture. */
  readonly architecture: string;
  readonly attention: AttentionShape;
}

/**
 * @param params.header the file's first bytes; 16 MiB are enough for almost every model.
 * @param params.fileBytes the whole file's length, bytes.
 * @returns null when `header` ends before the tensor table does: call again with more of the file.
 * @throws AdapterFormatError when the file is not a GGUF model or lacks the number of heads.
 */
export function readGgufAttention(params: {
  header: Uint8Array;
  fileBytes: number;
  path?: string | undefined;
}): GgufBaseShape | null {
  const parsed = parseGgufHeader({ ...params, limits: GGUF_BASE_LIMITS });
  if (parsed === null) return null;
  const architecture = parsed.metadata.get('general.architecture');
  const key = `${String(architecture)}.attention.head_count`;
  const heads = parsed.metadata.get(key);
  const kvHeads = parsed.metadata.get(`${key}_kv`) ?? heads;
  if (typeof architecture !== 'string' || typeof heads !== 'number' || typeof kvHeads !== 'number')
    throw new AdapterFormatError({
      code: 'metadata_invalid',
      message: `${printable(key)} and its _kv are not one number each. Give a language model of the Llama family.`,
      path: params.path,
      subject: key,
    });
  return { architecture, attention: { heads, kvHeads } };
}
