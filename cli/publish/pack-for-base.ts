/** For which of a server's bases an adapter is packed. */
import { readAdapter, type PackedAdapter } from '../../adapters/index.ts';
import type { BaseInfo } from '../../protocol/index.ts';
import { adapterBaseId } from '../adapter-files/base-id.ts';
import type { AdapterInput } from '../adapter-files/read-input.ts';
import { asRefusal } from '../adapter-files/refusal.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { attentionOf, packInput } from './pack-input.ts';

export interface PackedForBase {
  readonly base: BaseInfo;
  readonly packed: PackedAdapter;
}

/**
 * Packs for the base that the adapter names, or, where it names none, for its parent's.
 * @param params.bases those that the server has, not empty. Where there is one, it decides what the adapter is for.
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
      message: `${input.where} does not say which base it is for, and the server has ${served}. Name it where the adapter is configured (base_model_name_or_path in PEFT's adapter_config.json).`,
      exitCode: EXIT.usage,
      code: 'base_unknown',
    });
  }
  const exact = bases.find(({ id }) => id === named);
  if (exact !== undefined) return pack(exact);
  // It may name a converted copy of one of them, which the packing of that one takes.
  for (const base of bases) {
    try {
      return await pack(base);
    } catch (error) {
      if (!(error instanceof CliError) || error.reason !== 'base_mismatch') throw error;
    }
  }
  throw new CliError({
    message: `${input.where}: The adapter is for the base ${named}; this server has ${served}. Publish it where its base is served. (base_mismatch)`,
    exitCode: EXIT.refused,
    code: 'adapter_invalid',
    reason: 'base_mismatch',
  });
}

/** @param base any: what an adapter says of its own base does not depend on it. @returns null when it says none. */
export function namedBase(input: AdapterInput, base: Pick<BaseInfo, 'attention'>): string | null {
  try {
    return adapterBaseId(readAdapter(input.files, { attention: attentionOf(base) }).baseModel);
  } catch (error) {
    throw asRefusal(error, input.where);
  }
}
