/** What an adapter needs to know about a base model in GGUF. */
import { AdapterFormatError, printable } from '../errors.ts';
import { parseGgufHeader, type GgufLimits } from './gguf-container.ts';
import type { AttentionShape } from './rope-rows.ts';

/** The largest vocabularies have 256k tokens, each with a score, a type and up to two merges. */
export const GGUF_BASE_LIMITS: GgufLimits = { tensors: 100_000, values: 16_777_216 };

export interface GgufBaseShape {
  /** llama.cpp's name of the architecture. */
  readonly architecture: string;
  readonly attention: AttentionShape;
}

/**
 * @param params.header the file's first bytes; 16 MiB hold almost every model's.
 * @param params.fileBytes the whole file's length, bytes.
 * @returns null when `header` ends before the tensor table does: call again with more of the file.
 * @throws AdapterFormatError when the file is no GGUF model or does not say how many heads it has.
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
      message: `${printable(key)} and its _kv are not one number each: give a language model of the Llama family.`,
      path: params.path,
      subject: key,
    });
  return { architecture, attention: { heads, kvHeads } };
}
