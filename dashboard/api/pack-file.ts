/**
 * Reading and checking an adapter in the page. Loaded when somebody publishes, because it is a large part of
 * the page's script.
 */
import {
  AdapterFormatError,
  fileFacts,
  packAdapter,
  readAdapter,
  validateAdapter,
  type PackedAdapter,
} from '../../adapters/index.ts';
import { blobRecordOf, splitParts } from '../../protocol/adapter-manifest.ts';
import type { FileFacts } from '../../protocol/admin-api/versions.ts';
import { MAX_PART_BYTES } from '../../protocol/limits.ts';
import { baseIdOf } from '../../protocol/identity.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { err, ok, type Result } from '../../protocol/api-error.ts';

/** Problems shown at once. */
const MAX_TOLD = 3;

export interface PackedFile {
  readonly base: BaseInfo;
  readonly packed: PackedAdapter;
  /** Slices of the file, in the size that is sent. */
  readonly parts: readonly Uint8Array<ArrayBuffer>[];
  readonly facts: FileFacts;
}

/**
 * Builds the canonical file of the user's input, and checks it against its base.
 * @param params.bases of the edge. A single one decides.
 * @param params.parent what it was trained on; null = the base.
 * @returns the reason of a refusal, as text.
 */
export async function packFile(params: {
  weights: File;
  config: File | null;
  /** transformers' `config.json`. */
  modelConfig?: File | null;
  bases: readonly BaseInfo[];
  parent: { chainId: string; base: string } | null;
  bf16: boolean;
  partBytes?: number;
}): Promise<Result<PackedFile, string>> {
  const { weights, config, modelConfig = null, bases, parent, bf16, partBytes = MAX_PART_BYTES } = params;
  const files = {
    weights: new Uint8Array(await weights.arrayBuffer()),
    configJson: config === null ? null : await config.text(),
    modelConfigJson: modelConfig === null ? null : await modelConfig.text(),
    weightsPath: weights.name,
    ...(config === null ? {} : { configPath: config.name }),
  };
  try {
    const base = chooseBase(files, bases, parent?.base ?? null);
    if (base === null)
      return err(
        bases.length === 0
          ? 'No origin answers, and only an origin knows the shape of a base. Try again when one does.'
          : "The adapter's base is unknown, or none of the bases here " +
              `(${bases.map(({ id }) => id).join(', ')}).`,
      );
    if (parent !== null && parent.base !== base.id)
      return err(
        `It is for the base ${base.id}, but its parent is for ${parent.base}: a chain has one base.`,
      );
    const packed = await packAdapter({
      files,
      attention: attentionOf(base),
      baseId: base.id,
      parentChainId: parent?.chainId ?? null,
      dtype: bf16 ? 'BF16' : 'keep',
    });
    const problems = validateAdapter({ adapter: packed, base });
    if (problems.length > 0) return err(told(problems));
    const parts = splitParts(packed.bytes, partBytes);
    return ok({ base, packed, parts, facts: fileFacts(packed, await blobRecordOf(parts)) });
  } catch (error) {
    if (error instanceof AdapterFormatError) return err(told([error]));
    throw error;
  }
}

const told = (problems: readonly AdapterFormatError[]): string =>
  problems
    .slice(0, MAX_TOLD)
    .map(({ message, code, path }) => `${path === undefined ? '' : `${path}: `}${message} (${code})`)
    .join(' ') +
  (problems.length > MAX_TOLD ? ` And ${problems.length - MAX_TOLD} more problems like these.` : '');

const attentionOf = ({ attention }: Pick<BaseInfo, 'attention'>) =>
  attention === undefined ? null : { heads: attention.heads, kvHeads: attention.kv_heads };

/** The only one, the one that the adapter names, or its parent's. */
function chooseBase(
  files: Parameters<typeof readAdapter>[0],
  bases: readonly BaseInfo[],
  parentBase: string | null,
): BaseInfo | null {
  const [first] = bases;
  if (first === undefined || bases.length === 1) return first ?? null;
  // An adapter's own base does not depend on the base it is read for.
  const { baseModel } = readAdapter(files, { attention: attentionOf(first) });
  const wanted = baseModel === null ? parentBase : baseIdOf(baseModel);
  return bases.find(({ id }) => id === wanted) ?? null;
}
