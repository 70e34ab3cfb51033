import type { BaseInfo } from '../protocol/index.ts';
import { AdapterFormatError, printable } from './errors.ts';
import { parseCanonical, type CanonicalAdapter } from './format/canonical.ts';
import { maxMagnitude } from './format/dtype.ts';
import { inFeatures, outFeatures, type LoraModule } from './format/lora-module.ts';

/** Largest float32. */
const MAX_FLOAT32 = 3.4028234663852886e38;

/** Of a module's tensors: the largest absolute value; NaN or Infinity as soon as one value is. */
export interface Magnitudes {
  readonly a: number;
  readonly b: number;
}

/**
 * Looks at every value: none may be NaN or infinite, no entry of scale * B A may leave float32, and the adapter must
 * change something. Does not need a base.
 * @returns the problems, in the order of the modules.
 */
export const checkValues = (modules: readonly LoraModule[]): AdapterFormatError[] =>
  checkMagnitudes(modules, ({ a, b }) => ({ a: maxMagnitude(a), b: maxMagnitude(b) }));

/** The same by the largest values, whoever has looked at them. */
export function checkMagnitudes(
  modules: readonly LoraModule[],
  largestOf: (module: LoraModule) => Magnitudes,
): AdapterFormatError[] {
  const problems: AdapterFormatError[] = [];
  let changes = false;
  for (const module of modules) {
    const { name, rank, scale } = module;
    const { a: largestA, b: largestB } = largestOf(module);
    const bad = !Number.isFinite(largestA) ? 'A' : !Number.isFinite(largestB) ? 'B' : undefined;
    if (bad !== undefined)
      problems.push(
        new AdapterFormatError({
          code: 'non_finite',
          message: `${printable(name)}: ${bad} holds NaN or infinity. The training diverged; use an earlier checkpoint.`,
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
          message: `${printable(name)}: the values are so large that their product can leave float32. Use an earlier checkpoint.`,
          subject: name,
        }),
      );
    if (largestA !== 0 && largestB !== 0) changes = true;
  }
  if (!changes && problems.length === 0)
    problems.push(
      new AdapterFormatError({
        code: 'no_op',
        message:
          'In every module A or B is zero, so the adapter changes nothing. It was saved before it was trained: save it again after.',
      }),
    );
  return problems;
}

/** A head's last path segment in the models that Hugging Face has. */
const HEAD = /(?:^|\.)(?:lm_head|output|embed_out|score|classifier)$/;

const unknownModule = (name: string, base: string): string =>
  HEAD.test(name)
    ? `the head cannot be adapted, only linear layers inside the model. Train without "${printable(name.split('.').at(-1) ?? name)}" in target_modules.`
    : `the base ${base} has no such linear layer. Train against this base.`;

/** Base id, modules and shapes against what the origin serves. */
export function checkBase(
  { config, modules }: Pick<CanonicalAdapter, 'config' | 'modules'>,
  base: BaseInfo,
): AdapterFormatError[] {
  const problems: AdapterFormatError[] = [];
  if (config.base !== base.id)
    problems.push(
      new AdapterFormatError({
        code: 'base_mismatch',
        message: `The adapter is for the base ${printable(config.base)}, this one is ${base.id}. Publish it where its base is served.`,
        subject: config.base,
      }),
    );
  const known = new Map(base.modules.map((module) => [module.name, module]));
  for (const module of modules) {
    const { name, rank } = module;
    const linear = known.get(name);
    const add = (code: 'module_unknown' | 'shape_mismatch' | 'rank_sum_exceeded', message: string) =>
      problems.push(
        new AdapterFormatError({ code, message: `${printable(name)}: ${message}`, subject: name }),
      );
    if (linear === undefined) {
      add('module_unknown', unknownModule(name, base.id));
      continue;
    }
    if (linear.in !== inFeatures(module) || linear.out !== outFeatures(module))
      add(
        'shape_mismatch',
        `the file's A is [${module.a.shape.join(', ')}] and B [${module.b.shape.join(', ')}], ` +
          `the base ${base.id} needs A [${rank}, ${linear.in}] and B [${linear.out}, ${rank}]. Train against this base.`,
      );
    if (rank > base.max_rank_sum)
      add(
        'rank_sum_exceeded',
        `rank ${rank} is above ${base.max_rank_sum}, the most that this origin serves. Train with a smaller rank, or raise the limit.`,
      );
  }
  return problems;
}

/**
 * Everything that can be said about an adapter without running it.
 * @param params.adapter a canonical file, or what {@link parseCanonical} made of it.
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
  return [...checkBase(adapter, params.base), ...checkValues(adapter.modules)];
}
