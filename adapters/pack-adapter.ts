import { checkBaseName } from './base-name.ts';
import { digestOf } from './digest-of.ts';
import { AdapterFormatError } from './errors.ts';
import { encodeCanonical, parseCanonical, type CanonicalAdapter } from './format/canonical.ts';
import type { AttentionShape } from './format/rope-rows.ts';
import { CONFIG_PATH, readAdapter, type AdapterFiles, type AdapterFormat } from './read-adapter.ts';
import { checkValues } from './validate-adapter.ts';

export interface PackedAdapter extends CanonicalAdapter {
  /** The canonical file; `modules` are views into it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** sha256 of `bytes`, lower-case hex. */
  readonly digest: string;
  /** What it was made from. */
  readonly format: AdapterFormat;
  /** Largest rank of its modules. */
  readonly rank: number;
  /** Things that were accepted but may be a mistake, each a sentence. */
  readonly warnings: readonly string[];
}

/** Where each format says which base it is for, as an error names it. */
const BASE_FIELD: Readonly<Record<AdapterFormat, string>> = {
  canonical: 'base',
  peft: 'base_model_name_or_path',
  mlx: 'model',
  kohya: 'base',
  gguf: 'general.base_model',
};

/**
 * Makes the canonical file of an adapter of any format. The same adapter gives the same bytes; a canonical file that is
 * packed again for the same base, parent and type gives itself.
 * @param params.attention the base's heads, which a GGUF file of a Llama needs; null or absent = not known.
 * @param params.baseId id of the base model (`GET /base`), such as `smollm2-135m-instruct`.
 * @param params.parentChainId chain id of the adapters below this one; null when it was trained on the base itself.
 * @param params.dtype BF16 rounds every value to bfloat16, half the bytes of float32; the default keeps the types.
 * @throws AdapterFormatError the first problem.
 */
export async function packAdapter(params: {
  files: AdapterFiles;
  attention?: AttentionShape | null;
  baseId: string;
  parentChainId: string | null;
  dtype?: 'keep' | 'BF16';
}): Promise<PackedAdapter> {
  const { files, baseId, parentChainId } = params;
  const read = readAdapter(files, { attention: params.attention ?? null });
  const ownConfig = read.format === 'peft' || read.format === 'mlx';
  const baseWarning = checkBaseName({
    baseModel: read.baseModel,
    baseId,
    path: ownConfig ? (files.configPath ?? CONFIG_PATH) : files.weightsPath,
    subject: BASE_FIELD[read.format],
  });
  if (read.format === 'canonical' && read.parent !== parentChainId)
    throw new AdapterFormatError({
      code: 'parent_mismatch',
      message:
        `The adapter was packed for the parent chain ${read.parent ?? '(none)'}, not for ${parentChainId ?? '(none)'}. ` +
        `A delta is only valid on what it was trained on: give that parent, or pack the files that it was trained as.`,
      path: files.weightsPath,
      subject: 'parent',
    });
  const [problem] = checkValues(read.modules);
  if (problem) throw problem;
  const dtype = params.dtype ?? 'keep';
  const bytes = encodeCanonical({ base: baseId, parent: parentChainId, modules: read.modules, dtype });
  // Read back: what this function returns is what every later reader accepts.
  const canonical = parseCanonical(bytes);
  const [rounded] = dtype === 'keep' ? [] : checkValues(canonical.modules);
  if (rounded) throw rounded;
  return {
    ...canonical,
    format: read.format,
    bytes,
    digest: await digestOf(bytes),
    rank: canonical.modules.reduce((rank, module) => Math.max(rank, module.rank), 0),
    warnings: [...read.warnings, ...(baseWarning === null ? [] : [baseWarning])],
  };
}
