import {
  type AdapterFormatError,
  packAdapter,
  type PackedAdapter,
  readAdapter,
  validateAdapter,
} from '../../adapters/index.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { adapterBaseId } from '../adapter-files/adapter-base.ts';
import { type AdapterInput, asRefusal } from '../adapter-files/read-input.ts';
import { CliError, EXIT } from '../cli-error.ts';

/** Problems in one message; the server reports as many. */
const MAX_TOLD = 3;

/** The base's heads in the toolkit's terms; null when the server does not report them. */
export const attentionOf = ({ attention }: Pick<BaseInfo, 'attention'>) =>
  attention === undefined ? null : { heads: attention.heads, kvHeads: attention.kv_heads };

/**
 * Builds the canonical file of any input. The same input, parent and base give the same bytes.
 * @param params.base null = unknown, and with it the heads.
 * @throws CliError `adapter_invalid` (refused)
 */
export async function packInput(params: {
  input: AdapterInput;
  base: Pick<BaseInfo, 'id' | 'attention'>;
  parentChainId: string | null;
  bf16: boolean;
}): Promise<PackedAdapter> {
  const { input, base, parentChainId, bf16 } = params;
  try {
    return await packAdapter({
      files: input.files,
      attention: attentionOf(base),
      baseId: base.id,
      parentChainId,
      dtype: bf16 ? 'BF16' : 'keep',
    });
  } catch (error) {
    throw asRefusal(error, input.where);
  }
}

/** @throws CliError `adapter_invalid` (refused) with the first problems, when the adapter does not fit the base. */
export function refuseUnfit(packed: PackedAdapter, base: BaseInfo, where: string): void {
  const problems = validateAdapter({ adapter: packed, base });
  if (problems.length === 0) return;
  throw new CliError({
    message: `${where}: ${problemText(problems)}`,
    exitCode: EXIT.refused,
    code: 'adapter_invalid',
  });
}

function problemText(problems: readonly AdapterFormatError[]): string {
  const told = problems.slice(0, MAX_TOLD).map(({ message, code }) => `${message} (${code})`);
  const more = problems.length - told.length;
  return told.join(' ') + (more > 0 ? ` And ${more} more problems like these.` : '');
}

export interface PackedForBase {
  readonly base: BaseInfo;
  readonly packed: PackedAdapter;
}

/**
 * Packs for the base that the adapter names or, if it names none, for its parent's.
 * @param params.bases of the server, not empty. A single one decides.
 * @param params.parentBase id of the parent's base; null = it has no parent.
 * @throws CliError `adapter_invalid` (refused), `base_unknown` (usage)
 */
export async function packForBase(params: {
  input: AdapterInput;
  bases: readonly BaseInfo[];
  parentBase: string | null;
  parentChainId: string | null;
  bf16: boolean;
}): Promise<PackedForBase> {
  const { input, bases, parentBase } = params;
  const [first] = bases;
  if (first === undefined) throw new Error('no base');
  const pack = async (base: BaseInfo): Promise<PackedForBase> => ({
    base,
    packed: await packInput({ ...params, base }),
  });
  if (bases.length === 1) return pack(first);
  const served = bases.map(({ id }) => id).join(', ');
  const named = namedBase(input, first);
  if (named === null) {
    const base = bases.find(({ id }) => id === parentBase);
    if (base !== undefined) return pack(base);
    throw new CliError({
      message:
        `${input.where} does not record its base, and the server has ${served}. Set it in the adapter ` +
        "(base_model_name_or_path in PEFT's adapter_config.json).",
      exitCode: EXIT.usage,
      code: 'base_unknown',
    });
  }
  const exact = bases.find(({ id }) => id === named);
  if (exact !== undefined) return pack(exact);
  // It may name a converted copy of one of them, which packing accepts.
  for (const base of bases) {
    try {
      return await pack(base);
    } catch (error) {
      if (!(error instanceof CliError) || error.reason !== 'base_mismatch') throw error;
    }
  }
  throw new CliError({
    message:
      `${input.where}: The adapter is for the base ${named}, but this server has ${served}. Publish it ` +
      'where its base is served. (base_mismatch)',
    exitCode: EXIT.refused,
    code: 'adapter_invalid',
    reason: 'base_mismatch',
  });
}

/** @param base any: an adapter's own base does not depend on it. @returns null when it names none. */
export function namedBase(input: AdapterInput, base: Pick<BaseInfo, 'attention'>): string | null {
  try {
    return adapterBaseId(readAdapter(input.files, { attention: attentionOf(base) }).baseModel);
  } catch (error) {
    throw asRefusal(error, input.where);
  }
}
