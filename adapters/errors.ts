/** Why an adapter was refused; docs/adapter-format.md lists the codes with remedies. */
export const ADAPTER_ERROR_CODES = [
  // the file as bytes
  'pickle_refused',
  'format_unknown',
  'file_in_parts',
  'truncated_file',
  'trailing_bytes',
  'header_too_large',
  'header_invalid',
  'duplicate_key',
  'metadata_invalid',
  'too_many_tensors',
  'tensor_invalid',
  'dtype_unknown',
  'shape_invalid',
  'offsets_invalid',
  'size_mismatch',
  // the configuration, PEFT's or MLX's
  'config_missing',
  'config_mismatch',
  'config_invalid',
  'config_key_unknown',
  'pattern_unsupported',
  'not_lora',
  'dora',
  'alora',
  'qalora',
  'bdlora',
  'kasa',
  'arrow',
  'monteclora',
  'megatron',
  'layer_replication',
  'modules_to_save',
  'classifier_invalid',
  'classifier_unsupported',
  'trainable_tokens',
  'target_parameters',
  'bias',
  'lora_bias',
  'init_mutates_base',
  'scale_ambiguous',
  // the tensors
  'embedding_lora',
  'full_weight',
  'expert_lora',
  'image_lora',
  'lycoris',
  'name_ambiguous',
  'unknown_tensor',
  'duplicate_module',
  'missing_pair',
  'module_name_invalid',
  'dtype_unsupported',
  'rank_mismatch',
  'rank_too_large',
  'scale_invalid',
  'empty_adapter',
  'non_finite',
  'no_op',
  // the canonical file
  'not_canonical',
  'format_version',
  // against the base and the chain
  'base_needed',
  'architecture_unknown',
  'base_mismatch',
  'module_unknown',
  'shape_mismatch',
  'rank_sum_exceeded',
  'parent_mismatch',
] as const;
export type AdapterErrorCode = (typeof ADAPTER_ERROR_CODES)[number];

/** Longest text from the file that a message repeats, characters. */
const MAX_QUOTED = 160;

/** Makes text from an untrusted file safe for a log line or a terminal: printable ASCII, bounded length. */
export function printable(text: string): string {
  const short = text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text;
  return short.replace(
    /[^\x20-\x7e…]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** A permanent failure: the same bytes will be refused again. */
export class AdapterFormatError extends Error {
  override readonly name = 'AdapterFormatError';
  readonly code: AdapterErrorCode;
  /** The caller's name of the file. */
  readonly path: string | undefined;
  /** Tensor name, module or configuration key at fault; safe to print. */
  readonly subject: string | undefined;

  constructor(params: {
    code: AdapterErrorCode;
    message: string;
    path?: string | undefined;
    subject?: string | undefined;
  }) {
    super(params.message);
    this.code = params.code;
    this.path = params.path;
    this.subject = params.subject === undefined ? undefined : printable(params.subject);
  }
}
