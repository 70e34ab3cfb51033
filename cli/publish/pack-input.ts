import type { AdapterFormatError } from '../../adapters/index.ts';
import { packAdapter, validateAdapter, type PackedAdapter } from '../../adapters/index.ts';
import type { BaseInfo } from '../../protocol/index.ts';
import type { AdapterInput } from '../adapter-files/read-input.ts';
import { asRefusal } from '../adapter-files/refusal.ts';
import { CliError, EXIT } from '../cli-error.ts';

/** Problems told in one message; the server tells as many. */
const MAX_TOLD = 3;

/** The base's heads in the toolkit's terms; null when the server does not tell them. */
export const attentionOf = ({ attention }: Pick<BaseInfo, 'attention'>) =>
  attention === undefined ? null : { heads: attention.heads, kvHeads: attention.kv_heads };

/**
 * Makes the canonical file of whatever was read. The same input, parent and base give the same bytes.
 * @param params.base null = it could not be asked: heads are unknown then.
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

export function problemText(problems: readonly AdapterFormatError[]): string {
  const told = problems.slice(0, MAX_TOLD).map(({ message, code }) => `${message} (${code})`);
  const more = problems.length - told.length;
  return told.join(' ') + (more > 0 ? ` And ${more} more problems like these.` : '');
}
