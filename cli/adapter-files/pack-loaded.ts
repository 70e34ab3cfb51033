import { packAdapter, type PackedAdapter } from '../../adapters/index.ts';
import { chooseBaseId } from './base-id.ts';
import type { LoadedAdapter } from './load-adapter.ts';
import { asRefusal } from './refusal.ts';

/**
 * Makes the canonical file of what was read.
 * @param params.baseId what `--base-id` says. @param params.parent chain id.
 * @throws CliError when nobody says which base it is for, or the adapter is refused.
 */
export async function packLoaded(params: {
  loaded: LoadedAdapter;
  baseId: string | undefined;
  parent: string | null;
  dtype: 'keep' | 'BF16';
}): Promise<{ packed: PackedAdapter; baseId: string }> {
  const { loaded, parent, dtype } = params;
  const { input, read, attention } = loaded;
  const baseId = await chooseBaseId({
    flag: params.baseId,
    read,
    where: input.where,
    env: process.env,
    folder: process.cwd(),
  });
  try {
    const packed = await packAdapter({ files: input.files, attention, baseId, parentChainId: parent, dtype });
    return { packed, baseId };
  } catch (error) {
    throw asRefusal(error, input.where);
  }
}
