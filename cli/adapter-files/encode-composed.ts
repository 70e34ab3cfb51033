import { chooseBaseId } from './base-id.ts';
import type { ComposedBase, Sum } from './compose-members.ts';
import { encodeAsCanonical, encodeAsGguf, encodeAsPeft, type Encoded } from './encode-as.ts';
import type { BaseSearch } from './load-adapter.ts';

/** Writes a sum of adapters in one of the formats. @param where for errors. @throws CliError */
export async function encodeComposed(
  to: 'canonical' | 'peft' | 'gguf',
  { modules }: Sum,
  { base, parent }: ComposedBase,
  where: string,
  search: BaseSearch,
): Promise<Encoded & { base: string | null }> {
  if (to === 'peft') return { ...encodeAsPeft({ modules, baseModel: base, where }), base };
  if (to === 'gguf') {
    const params = { modules, baseModel: base, baseId: base, dtype: 'F32', where, search } as const;
    return { ...(await encodeAsGguf(params)), base };
  }
  const baseId = await chooseBaseId({
    flag: base ?? undefined,
    read: { baseModel: null },
    where,
    env: process.env,
    folder: process.cwd(),
  });
  return { ...(await encodeAsCanonical({ modules, baseId, parent, where })), base: baseId };
}
