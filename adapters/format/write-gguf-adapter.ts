/** Writes LoRA adapters as llama.cpp's server loads them (`--lora`). */
import { AdapterFormatError, printable, type AdapterErrorCode } from '../errors.ts';
import { toDtype } from './convert-dtype.ts';
import { toFloat32 } from './dtype.ts';
import { foldIntoB } from './fold-scale.ts';
import { ggufKinds, ggufOfModule, ROWS_PERMUTED, rotaryHeads } from './gguf-names.ts';
import type { LoraModule } from './lora-module.ts';
import { isHeads, permuteRows, type AttentionShape } from './rope-rows.ts';
import { writeGguf, type GgufField, type GgufTensorData } from './write-gguf.ts';

/** ggml_type and, for the whole file, llama_ftype. */
const TYPES = { F32: { ggml: 0, file: 0 }, F16: { ggml: 1, file: 1 } } as const;

function refuse(code: AdapterErrorCode, message: string, subject?: string): never {
  throw new AdapterFormatError({ code, message, subject });
}

/**
 * The alpha that most modules have already, so that most tensors need no change; of equally frequent ones the smallest.
 */
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
      "In a GGUF file of a Llama the rows of q and k are in another order, which depends on the base's heads: " +
        'give the base (--base).',
      name,
    );
  const heads = rotaryHeads(name, attention) as number;
  const [rows] = b.shape as [number, number];
  if (!isHeads(rows, heads))
    return refuse(
      'shape_mismatch',
      `${printable(name)}: ${rows} rows of B are not ${heads} heads of an even size. Give the base that the adapter was trained on.`,
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
 * @returns the same bytes for the same modules in whatever order.
 * @throws AdapterFormatError `module_unknown` for a module that has no name in GGUF, `architecture_unknown`,
 * `base_needed`, `shape_mismatch`, `empty_adapter`, or `non_finite` when a value does not fit the type.
 */
export function writeGgufAdapter(params: {
  modules: readonly LoraModule[];
  attention: AttentionShape | null;
  baseModel: string | null;
  dtype?: 'F32' | 'F16';
  architecture?: string;
}): Uint8Array<ArrayBuffer> {
  const { attention, baseModel, dtype = 'F32', architecture = 'llama' } = params;
  if (!ROWS_PERMUTED.has(architecture))
    refuse(
      'architecture_unknown',
      `GGUF adapters of the architecture "${printable(architecture)}" cannot be written; known are ` +
        `${[...ROWS_PERMUTED.keys()].join(', ')}.`,
      architecture,
    );
  if (params.modules.length === 0) refuse('empty_adapter', 'The adapter has no modules.');
  const named = params.modules.map((module) => {
    const name = ggufOfModule(module.name, architecture);
    return name === null
      ? refuse(
          'module_unknown',
          `${printable(module.name)} has no name in GGUF: of ${architecture} only the linear layers ` +
            `${ggufKinds(architecture).join(', ')} have. Write the adapter as PEFT.`,
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
  return writeGguf({ metadata: describe(architecture, stored, baseModel, TYPES[dtype].file), tensors });
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
