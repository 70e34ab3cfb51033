/** The formats that commands write, from modules in memory. */
import {
  checkValues,
  encodeCanonical,
  type LoraModule,
  writeGgufAdapter,
  writePeftAdapter,
} from '../../adapters/index.ts';
import { sha256Hex } from '../../protocol/index.ts';
import { chooseBaseId } from './base-id.ts';
import type { ComposedBase, Sum } from './compose-members.ts';
import { type BaseSearch, lookForBase } from './load-adapter.ts';
import { asRefusal } from './read-input.ts';
import type { OutputContent } from './write-output.ts';

export interface Encoded {
  readonly content: OutputContent;
  /** Of a canonical file; null for others, which have no identity. */
  readonly digest: string | null;
}

/** @throws CliError when the values cannot be packed. */
async function encodeAsCanonical(params: {
  modules: readonly LoraModule[];
  baseId: string;
  parent: string | null;
  where: string;
}): Promise<Encoded> {
  const { modules, baseId, parent, where } = params;
  const [problem] = checkValues(modules);
  if (problem !== undefined) throw asRefusal(problem, where);
  const content = encodeCanonical({ base: baseId, parent, modules });
  return { content, digest: await sha256Hex(content) };
}

/** The two files of a PEFT folder. @param baseModel for `base_model_name_or_path`. */
export function encodeAsPeft(params: {
  modules: readonly LoraModule[];
  baseModel: string | null;
  where: string;
}): Encoded {
  try {
    const { configJson, safetensors } = writePeftAdapter(params);
    const content = new Map<string, Uint8Array | string>([
      ['adapter_config.json', configJson],
      ['adapter_model.safetensors', safetensors],
    ]);
    return { content, digest: null };
  } catch (error) {
    throw asRefusal(error, params.where);
  }
}

/**
 * For llama.cpp. The base says how the rows of q and k are ordered, and which architecture the file is for.
 * @throws CliError `base_needed` (usage) when the order matters and nobody knows the base.
 */
export async function encodeAsGguf(params: {
  modules: readonly LoraModule[];
  baseModel: string | null;
  baseId: string | null;
  dtype: 'F32' | 'F16';
  where: string;
  search: BaseSearch;
}): Promise<Encoded> {
  const { modules, baseModel, baseId, dtype, where, search } = params;
  const base = await lookForBase(search, baseId);
  const architecture = base?.architecture ?? null;
  try {
    const content = writeGgufAdapter({
      modules,
      attention: base?.attention ?? null,
      baseModel,
      dtype,
      ...(architecture === null ? {} : { architecture }),
    });
    if (architecture === null)
      search.output.note("warning: the base's architecture is not known, taken as llama; --base says it.");
    return { content, digest: null };
  } catch (error) {
    throw asRefusal(error, where);
  }
}

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
