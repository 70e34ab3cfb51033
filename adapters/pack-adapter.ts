import { baseIdOf, sha256Hex } from '../protocol/index.ts';
import { convertPeftAdapter, type PeftFiles } from './convert-adapter.ts';
import { AdapterFormatError, printable } from './errors.ts';
import { encodeCanonical, parseCanonical, type CanonicalAdapter } from './format/canonical.ts';
import { checkValues } from './validate-adapter.ts';

export interface PackedAdapter extends CanonicalAdapter {
  /** The canonical file; `modules` are views into it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** sha256 of `bytes`, lower-case hex. */
  readonly digest: string;
  /** Largest rank of its modules. */
  readonly rank: number;
  /** Things that were accepted but may be a mistake, each a sentence. */
  readonly warnings: readonly string[];
}

/** `name` or `owner/name`, as the hub writes ids; anything else in the field is somebody's local path. */
const HUB_ID = /^[A-Za-z0-9][\w.-]*(?:\/[\w.-]+)?$/;

/** @returns a warning, or null. @throws AdapterFormatError `base_mismatch` */
function checkBaseName(baseModel: string | null, baseId: string): string | null {
  if (baseModel === null || baseModel === '')
    return `The adapter does not say which base it is for; taken as ${baseId}.`;
  if (baseIdOf(baseModel) === baseId) return null;
  const shown = printable(baseModel);
  if (!HUB_ID.test(baseModel))
    return `The adapter was trained on the local path "${shown}"; taken as ${baseId}.`;
  throw new AdapterFormatError({
    code: 'base_mismatch',
    message:
      `The adapter is for ${shown}, this base is ${baseId}. If they are the same model, ` +
      `set base_model_name_or_path in adapter_config.json.`,
    path: 'adapter_config.json',
    subject: 'base_model_name_or_path',
  });
}

/**
 * Makes the canonical file of a PEFT adapter.
 * @param params.baseId id of the base model (`GET /base`), such as `smollm2-135m-instruct`.
 * @param params.parentChainId chain id of the adapters below this one; null when it was trained on the base itself.
 * @throws AdapterFormatError the first problem.
 */
export async function packAdapter(params: {
  files: PeftFiles;
  baseId: string;
  parentChainId: string | null;
}): Promise<PackedAdapter> {
  const { baseModel, modules } = convertPeftAdapter(params.files);
  const warning = checkBaseName(baseModel, params.baseId);
  const [problem] = checkValues(modules);
  if (problem) throw problem;
  const bytes = encodeCanonical({ base: params.baseId, parent: params.parentChainId, modules });
  // Read back: what this function returns is what every later reader accepts.
  const canonical = parseCanonical(bytes);
  return {
    ...canonical,
    bytes,
    digest: await sha256Hex(bytes),
    rank: Math.max(...canonical.modules.map((module) => module.rank)),
    warnings: warning === null ? [] : [warning],
  };
}
