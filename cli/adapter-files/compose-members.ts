import {
  type AdapterContent,
  AdapterFormatError,
  commonClassifier,
  commonInvocation,
  checkMembers,
  deltaNorm,
  type LoraModule,
  sumAdapters,
  truncateAdapter,
  type TruncatedAdapter,
  type TruncatedModule,
} from '../../adapters/index.ts';
import { sha256Hex } from '../../protocol/identity.ts';
import type { Output, Progress } from '../output.ts';
import { adapterBaseId } from './adapter-base.ts';
import type { LoadedAdapter } from './load-adapter.ts';
import { asRefusal } from './read-input.ts';

export interface ComposeMember {
  readonly loaded: LoadedAdapter;
  readonly scale: number;
}

export interface ComposedBase {
  /** Base id; null when unknown. */
  readonly base: string | null;
  /** Chain id below all members. */
  readonly parent: string | null;
  readonly warnings: readonly string[];
}

export interface Sum extends AdapterContent {
  /** Largest rank of the exact sum. */
  readonly sumRank: number;
  /** null if nothing was truncated. */
  readonly truncated: {
    readonly relativeError: number;
    readonly perModule: readonly TruncatedModule[];
  } | null;
}

/**
 * Checks that the members may be composed.
 * @param baseId of `--base-id`: members that name no known base are assumed to be for it.
 * @throws CliError (refused)
 */
export async function checkComposition(
  members: readonly ComposeMember[],
  baseId: string | undefined,
): Promise<ComposedBase> {
  const checked = await checkMembers(
    await Promise.all(
      members.map(async ({ loaded: { input, read }, scale }) => {
        const lineage = read.format === 'canonical' && read.baseModel !== null;
        return {
          label: input.where,
          config: lineage ? { base: read.baseModel, parent: read.parent } : null,
          digest: lineage ? await sha256Hex(new Uint8Array(input.files.weights)) : null,
          scale,
        };
      }),
    ),
  );
  const where = members.map(({ loaded }) => loaded.input.where).join(' + ');
  if (!checked.ok) throw asRefusal(checked.error, where);
  const named = members.flatMap(({ loaded: { input, read } }) => {
    const id = adapterBaseId(read.baseModel);
    return id === null ? [] : [{ where: input.where, id, sure: read.format === 'canonical' }];
  });
  const [first] = named;
  const expected = baseId ?? checked.value.base ?? first?.id ?? null;
  const other = named.find(({ id, sure }) => id !== expected && (sure || baseId === undefined));
  if (other !== undefined)
    throw asRefusal(
      new AdapterFormatError({
        code: 'base_mismatch',
        message:
          `${other.where} is for the base ${other.id}, not for ${expected}. Only adapters of one base ` +
          'can be composed' +
          (other.sure ? '.' : '; if the two are the same model, set --base-id.'),
      }),
      where,
    );
  return { base: expected, parent: checked.value.parent, warnings: checked.value.warnings };
}

/** The sum, truncated to `rank` unless that is null. @throws CliError (refused) */
export function composeMembers(members: readonly ComposeMember[], rank: number | null, output: Output): Sum {
  const where = members.map(({ loaded }) => loaded.input.where).join(' + ');
  const progress = output.progress('singular values', 'percent');
  try {
    const invocation = commonInvocation(members.map(({ loaded }) => loaded.read));
    const classifier = commonClassifier(members.map(({ loaded }) => loaded.read));
    const sum = sumAdapters(
      members.map(({ loaded, scale }) => ({ modules: loaded.read.modules, scale })),
      { anyRank: rank !== null },
    );
    const sumRank = sum.reduce((largest, module) => Math.max(largest, module.rank), 0);
    if (rank === null) return { modules: sum, invocation, classifier, sumRank, truncated: null };
    const { modules, ...truncated } = truncateSlowly(sum, rank, progress);
    return { modules, invocation, classifier, sumRank, truncated };
  } catch (error) {
    throw asRefusal(error, where);
  } finally {
    progress.end();
  }
}

/**
 * `truncateAdapter`, module by module with progress: large adapters take minutes.
 * @throws AdapterFormatError as `truncateAdapter`.
 */
export function truncateSlowly(
  modules: readonly LoraModule[],
  rank: number,
  progress: Progress,
): TruncatedAdapter {
  const kept: LoraModule[] = [];
  const perModule: TruncatedModule[] = [];
  let [whole, cut] = [0, 0];
  for (const [index, module] of modules.entries()) {
    const truncated = truncateOne(module, rank);
    kept.push(...truncated.modules);
    perModule.push(...truncated.perModule);
    const square = deltaNorm(module) ** 2;
    whole += square;
    cut += square * truncated.relativeError ** 2;
    progress.update(index + 1, modules.length);
  }
  // Throws the toolkit's own error.
  if (kept.length === 0) return truncateAdapter(modules, rank);
  return { modules: kept, relativeError: cut === 0 ? 0 : Math.sqrt(cut / whole), perModule };
}

/** A module whose delta is zero is dropped; alone, `truncateAdapter` refuses it. */
function truncateOne(module: LoraModule, rank: number): TruncatedAdapter {
  try {
    return truncateAdapter([module], rank);
  } catch (error) {
    if (!(error instanceof AdapterFormatError) || error.code !== 'no_op') throw error;
    return { modules: [], relativeError: 0, perModule: [{ name: module.name, rank: 0, relativeError: 0 }] };
  }
}
