import type { BaseInfo } from '../protocol/origin-wire.ts';
import { checkBase } from './read-head.ts';
import { AdapterFormatError, printable } from './errors.ts';
import { parseCanonical, type CanonicalAdapter } from './format/canonical.ts';
import { maxMagnitude } from './format/dtype.ts';
import type { AdapterContent } from './format/invocation.ts';

/** Largest float32. */
const MAX_FLOAT32 = 3.4028234663852886e38;

/**
 * Checks every value: none may be NaN or infinite, no entry of scale * B A may exceed float32, and the adapter
 * must change something. A classification head without a delta classifies by the base's own states; of zeros alone, it
 * classifies nothing. Does not need a base.
 * @returns the problems, in the order of the modules.
 */
export function checkValues({
  modules,
  classifier,
}: Pick<AdapterContent, 'modules' | 'classifier'>): AdapterFormatError[] {
  const problems: AdapterFormatError[] = [];
  let changes = false;
  for (const module of modules) {
    const { name, rank, scale } = module;
    const [largestA, largestB] = [maxMagnitude(module.a), maxMagnitude(module.b)];
    const bad = !Number.isFinite(largestA) ? 'A' : !Number.isFinite(largestB) ? 'B' : undefined;
    if (bad !== undefined)
      problems.push(
        new AdapterFormatError({
          code: 'non_finite',
          message:
            `${printable(name)}: ${bad} contains NaN or infinity. The training diverged; use an earlier ` +
            'checkpoint.',
          subject: name,
        }),
      );
    else if (
      Math.abs(scale) * rank * largestA * largestB > MAX_FLOAT32 ||
      Math.abs(scale) * largestB > MAX_FLOAT32
    )
      problems.push(
        new AdapterFormatError({
          code: 'non_finite',
          message:
            `${printable(name)}: the values are so large that their product can exceed float32. Use an ` +
            'earlier checkpoint.',
          subject: name,
        }),
      );
    if (largestA !== 0 && largestB !== 0) changes = true;
  }
  if (classifier !== undefined) {
    const largest = maxMagnitude(classifier.weight);
    if (!Number.isFinite(largest))
      problems.push(
        new AdapterFormatError({
          code: 'non_finite',
          message:
            'The classification head contains NaN or infinity. The training diverged; use an earlier checkpoint.',
          subject: 'classifier',
        }),
      );
    else if (largest === 0 && problems.length === 0)
      problems.push(
        new AdapterFormatError({
          code: 'no_op',
          message:
            'The classification head is zero, so every class is as likely: it was saved before it was trained. ' +
            'Save it again after training.',
          subject: 'classifier',
        }),
      );
    return problems;
  }
  if (!changes && problems.length === 0)
    problems.push(
      new AdapterFormatError({
        code: 'no_op',
        message:
          'In every module A or B is zero, so the adapter changes nothing: it was saved before it was ' +
          'trained. Save it again after training.',
      }),
    );
  return problems;
}

/**
 * All checks of an adapter that do not run it.
 * @param params.adapter a canonical file, or the result of {@link parseCanonical}.
 * @returns the problems, most basic first; empty = it may be published for this base.
 */
export function validateAdapter(params: {
  adapter: Uint8Array | CanonicalAdapter;
  base: BaseInfo;
}): AdapterFormatError[] {
  let adapter: CanonicalAdapter;
  try {
    adapter = params.adapter instanceof Uint8Array ? parseCanonical(params.adapter) : params.adapter;
  } catch (error) {
    if (error instanceof AdapterFormatError) return [error];
    throw error;
  }
  return [...checkBase(adapter, params.base), ...checkValues(adapter)];
}
