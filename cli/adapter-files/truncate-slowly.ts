import {
  AdapterFormatError,
  deltaNorm,
  truncateAdapter,
  type LoraModule,
  type TruncatedAdapter,
  type TruncatedModule,
} from '../../adapters/index.ts';
import type { Progress } from '../output.ts';

/**
 * `truncateAdapter`, one module after the other: large adapters take minutes, and somebody waits.
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
  // Says why, in the toolkit's words.
  if (kept.length === 0) return truncateAdapter(modules, rank);
  return { modules: kept, relativeError: cut === 0 ? 0 : Math.sqrt(cut / whole), perModule };
}

/** A module whose delta is zero is left out; alone, `truncateAdapter` refuses it. */
function truncateOne(module: LoraModule, rank: number): TruncatedAdapter {
  try {
    return truncateAdapter([module], rank);
  } catch (error) {
    if (!(error instanceof AdapterFormatError) || error.code !== 'no_op') throw error;
    return { modules: [], relativeError: 0, perModule: [{ name: module.name, rank: 0, relativeError: 0 }] };
  }
}
