/**
 * An edge's view of a canonical file: its head, in chunks of any size, checked against a base. Tensors are not
 * read; the origin, which runs them, checks those. The only file of the toolkit in the worker's bundle.
 */
import { AdapterFormatError, printable } from './errors.ts';
import { parseCanonicalHead, type CanonicalHead } from './format/canonical.ts';
import { type ShapedClassifier, widthOf } from './format/classifier.ts';
import { type Invocation, outsideVocabulary } from './format/invocation.ts';
import { readHeaderLength } from './format/safetensors.ts';
import type { BaseInfo } from '../protocol/origin-wire.ts';
import { inFeatures, isVision, outFeatures, textModule, type LoraModule } from './format/lora-module.ts';

export { AdapterFormatError, printable } from './errors.ts';
export type { CanonicalHead } from './format/canonical.ts';
export type { ShapedClassifier } from './format/classifier.ts';

/** The length field in front of the header. */
const LENGTH_BYTES = 8;

export interface HeadReader {
  /** @returns true when nothing more is needed. */
  push(chunk: Uint8Array): boolean;
  /** Call it when `push` returned true, or the file has ended. @throws AdapterFormatError */
  head(): CanonicalHead;
}

/** @param params.fileBytes of the whole file. @param params.maxHeaderBytes larger headers are refused unread. */
export function createHeadReader(params: { fileBytes: number; maxHeaderBytes: number }): HeadReader {
  const { fileBytes, maxHeaderBytes } = params;
  let prefix = new Uint8Array(LENGTH_BYTES);
  let filled = 0;
  let head: CanonicalHead | null = null;
  let problem: AdapterFormatError | null = null;

  /** Called when the prefix is full: after the length field it grows by the header, which is then parsed. */
  function grow(): void {
    if (prefix.length > LENGTH_BYTES) {
      head = parseCanonicalHead({ prefix, fileBytes });
      return;
    }
    const bytes = readHeaderLength(prefix);
    if (bytes > maxHeaderBytes)
      throw new AdapterFormatError({
        code: 'header_too_large',
        message: `The header has ${bytes} bytes; the server reads at most ${maxHeaderBytes}. Train fewer modules.`,
      });
    if (bytes > fileBytes - LENGTH_BYTES)
      throw new AdapterFormatError({
        code: 'truncated_file',
        message: `The header needs ${LENGTH_BYTES + bytes} bytes, but the file has ${fileBytes}: it is truncated.`,
      });
    const whole = new Uint8Array(LENGTH_BYTES + bytes);
    whole.set(prefix);
    prefix = whole;
  }

  return {
    push(chunk) {
      let rest = chunk;
      try {
        while (head === null && problem === null && rest.length > 0) {
          const some = rest.subarray(0, prefix.length - filled);
          prefix.set(some, filled);
          filled += some.length;
          rest = rest.subarray(some.length);
          if (filled === prefix.length) grow();
        }
      } catch (error) {
        if (!(error instanceof AdapterFormatError)) throw error;
        problem = error;
      }
      return head !== null || problem !== null;
    },
    head() {
      if (head !== null) return head;
      throw (
        problem ??
        new AdapterFormatError({
          code: 'truncated_file',
          message: `The file has ${fileBytes} bytes: too short for safetensors.`,
        })
      );
    },
  };
}

/** A module without its values. */
export type ShapedModule = Pick<LoraModule, 'name' | 'rank'> & {
  readonly a: { readonly shape: readonly number[] };
  readonly b: { readonly shape: readonly number[] };
};

/** A head's last path segment in the models that Hugging Face has. */
const HEAD = /(?:^|\.)(?:lm_head|output|embed_out|score|classifier)$/;

/** Of a mixture of experts. */
const EXPERT = /\.mlp\.(?:experts(?:\.|$)|gate$)/;

function unknownModule(name: string, base: string): string {
  if (HEAD.test(name))
    return (
      'the head cannot be adapted, only linear layers inside the model. Train without ' +
      `"${printable(name.split('.').at(-1) ?? name)}" in target_modules.`
    );
  if (isVision(name))
    return (
      'belongs to the vision tower, and only text is served. Train with exclude_modules ' +
      '".*(visual|vision_tower|multi_modal_projector).*".'
    );
  if (EXPERT.test(name))
    return (
      'experts and their router cannot be adapted, only attention. Train with target_modules ' +
      '["q_proj", "k_proj", "v_proj", "o_proj"].'
    );
  return `the base ${base} has no such linear layer. Train against this base.`;
}

/** @returns why the base cannot serve the classification head; null = it can, or there is none. */
function unfitClassifier(
  classifier: ShapedClassifier | undefined,
  base: BaseInfo,
): AdapterFormatError | null {
  if (classifier === undefined || widthOf(classifier) === base.hidden) return null;
  if (base.hidden === undefined)
    return new AdapterFormatError({
      code: 'classifier_unsupported',
      message:
        `The adapter has a classification head, which the engine of the base ${base.id} does not serve. Serve ` +
        "the base with graft's own engine, or train without a head.",
      subject: 'classifier',
    });
  return new AdapterFormatError({
    code: 'shape_mismatch',
    message:
      `The classification head reads ${widthOf(classifier)} numbers, but the base ${base.id} has ${base.hidden} ` +
      'a token. Train against this base.',
    subject: 'classifier',
  });
}

/** Checks base id, invocation, classification head, modules and shapes against the origin's base. */
export function checkBase(
  {
    config,
    modules,
    classifier,
  }: {
    config: { readonly base: string; readonly invocation?: Invocation };
    modules: readonly ShapedModule[];
    classifier?: ShapedClassifier | undefined;
  },
  base: BaseInfo,
): AdapterFormatError[] {
  const problems: AdapterFormatError[] = [];
  if (config.base !== base.id)
    problems.push(
      new AdapterFormatError({
        code: 'base_mismatch',
        message:
          `The adapter is for the base ${printable(config.base)}, but this one is ${base.id}. Publish it ` +
          'where its base is served.',
        subject: config.base,
      }),
    );
  const outside = outsideVocabulary(config.invocation, base.vocabulary ?? Infinity);
  if (outside !== null) problems.push(outside);
  const unfit = unfitClassifier(classifier, base);
  if (unfit !== null) problems.push(unfit);
  const known = new Map(base.modules.map((module) => [textModule(module.name), module]));
  const names = new Set<string>();
  for (const module of modules) {
    const { name, rank } = module;
    const layer = textModule(name);
    const linear = known.get(layer);
    const add = (
      code: 'module_unknown' | 'shape_mismatch' | 'rank_sum_exceeded' | 'duplicate_module',
      message: string,
    ) =>
      problems.push(
        new AdapterFormatError({ code, message: `${printable(name)}: ${message}`, subject: name }),
      );
    if (names.has(layer)) add('duplicate_module', `is ${printable(layer)}, which has a pair already.`);
    names.add(layer);
    if (linear === undefined) {
      add('module_unknown', unknownModule(name, base.id));
      continue;
    }
    if (linear.in !== inFeatures(module) || linear.out !== outFeatures(module))
      add(
        'shape_mismatch',
        `the file's A is [${module.a.shape.join(', ')}] and B [${module.b.shape.join(', ')}], but the ` +
          `base ${base.id} needs A [${rank}, ${linear.in}] and B [${linear.out}, ${rank}]. Train against ` +
          'this base.',
      );
    if (rank > base.max_rank_sum)
      add(
        'rank_sum_exceeded',
        `rank ${rank} is above ${base.max_rank_sum}, the most that this origin serves. Train with a ` +
          'smaller rank, or raise the limit.',
      );
  }
  return problems;
}
