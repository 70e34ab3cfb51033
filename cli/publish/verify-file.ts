import {
  AdapterFormatError,
  checkValues,
  encodeCanonical,
  parseCanonical,
  readAdapter,
  validateAdapter,
  type ReadAdapter,
} from '../../adapters/index.ts';
import type { BaseInfo } from '../../protocol/index.ts';
import { adapterBaseId } from '../adapter-files/base-id.ts';
import { type AdapterInput, asRefusal, readInput } from '../adapter-files/read-input.ts';
import { lookUpBases } from '../admin/look-up.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { Output } from '../output.ts';
import { attentionOf, namedBase } from './pack-input.ts';

export interface FileCheck {
  readonly ok: boolean;
  readonly format: ReadAdapter['format'];
  /** Of the weights file. */
  readonly bytes: number;
  /** Largest of a module. */
  readonly rank: number;
  readonly modules: number;
  /** What it was compared with; null when no server could be asked. */
  readonly base: string | null;
  readonly unchecked_because: string | null;
  readonly warnings: readonly string[];
  readonly problems: readonly { readonly code: string; readonly message: string }[];
}

/**
 * Reads an adapter and says everything that is wrong with it.
 * @param params.client null when no server is known.
 * @throws CliError `adapter_invalid` (refused) when it cannot be read at all.
 */
export async function verifyFile(params: {
  given: string;
  client: ApiClient | null;
  output: Output;
}): Promise<FileCheck> {
  const { given, client, output } = params;
  const input = await readInput(given);
  for (const note of input.notes) output.note(note);
  const { base, because } = await baseOf(client, input);
  const read = readRefusing(input, base);
  for (const warning of read.warnings) output.note(`warning: ${warning}`);
  const problems = base === null ? checkValues(read.modules) : checkAgainst(read, base);
  return {
    ok: problems.length === 0,
    format: read.format,
    bytes: input.bytes,
    rank: Math.max(...read.modules.map(({ rank }) => rank)),
    modules: read.modules.length,
    base: base?.id ?? null,
    unchecked_because: because,
    warnings: read.warnings,
    problems: problems.map(({ code, message }) => ({ code, message })),
  };
}

/** The base that the adapter names, where the server has it; else the first, which it then does not fit. */
async function baseOf(
  client: ApiClient | null,
  input: AdapterInput,
): Promise<{ base: BaseInfo | null; because: string | null }> {
  if (client === null) return { base: null, because: 'no server is known' };
  try {
    const bases = await lookUpBases(client);
    const first = bases[0] as BaseInfo;
    const named = bases.length === 1 ? null : namedBase(input, first);
    return { base: bases.find(({ id }) => id === named) ?? first, because: null };
  } catch (error) {
    if (error instanceof CliError && error.exitCode === EXIT.unavailable)
      return { base: null, because: error.message };
    throw error;
  }
}

function readRefusing(input: AdapterInput, base: BaseInfo | null): ReadAdapter {
  try {
    return readAdapter(input.files, { attention: base === null ? null : attentionOf(base) });
  } catch (error) {
    throw asRefusal(error, input.where);
  }
}

/** As the server will check it: in its canonical form, under the base that the adapter itself names. */
function checkAgainst(read: ReadAdapter, base: BaseInfo): AdapterFormatError[] {
  try {
    const named = adapterBaseId(read.baseModel) ?? base.id;
    const bytes = encodeCanonical({ base: named, parent: read.parent, modules: read.modules });
    return validateAdapter({ adapter: parseCanonical(bytes), base });
  } catch (error) {
    if (error instanceof AdapterFormatError) return [error];
    throw error;
  }
}
