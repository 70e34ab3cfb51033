import type { BaseInfo } from '../protocol/index.ts';
import { AdapterFormatError, printable } from './errors.ts';
import { inFeatures, outFeatures, type LoraModule } from './format/lora-module.ts';

/** A module without its values. */
export type ShapedModule = Pick<LoraModule, 'name' | 'rank'> & {
  readonly a: { readonly shape: readonly number[] };
  readonly b: { readonly shape: readonly number[] };
};

/** A head's last path segment in the models that Hugging Face has. */
const HEAD = /(?:^|\.)(?:lm_head|output|embed_out|score|classifier)$/;

const unknownModule = (name: string, base: string): string =>
  HEAD.test(name)
    ? `the head cannot be adapted, only linear layers inside the model. Train without "${printable(name.split('.').at(-1) ?? name)}" in target_modules.`
    : `the base ${base} has no such linear layer. Train against this base.`;

/** Base id, modules and shapes against what the origin serves. */
export function checkBase(
  { config, modules }: { config: { readonly base: string }; modules: readonly ShapedModule[] },
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
