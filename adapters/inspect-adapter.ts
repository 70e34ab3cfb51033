import { deltaNorm } from './linear-algebra.ts';
import { parseCanonical } from './format/canonical.ts';
import { type Classifier, classesOf } from './format/classifier.ts';
import type { Invocation } from './format/invocation.ts';
import { inFeatures, outFeatures, type LoraModule } from './format/lora-module.ts';
import type { AdapterFormat, ReadAdapter } from './read-adapter.ts';

/** Modules of one kind, such as `self_attn.q_proj`, over all layers. */
export interface AdapterTarget {
  readonly target: string;
  readonly modules: number;
  readonly minRank: number;
  readonly maxRank: number;
}

export interface ModuleDescription {
  readonly name: string;
  readonly rank: number;
  readonly alpha: number;
  /** alpha / rank. */
  readonly scale: number;
  /** Of A and B; both, such as `F16/F32`, where they differ. */
  readonly dtype: string;
  readonly in: number;
  readonly out: number;
  /** Frobenius norm of scale * B A; NaN or infinite if the values are. */
  readonly norm: number;
}

export interface ClassifierDescription {
  readonly classes: number;
  /** By class; null = `LABEL_0` and so on. */
  readonly labels: readonly string[] | null;
  /** As transformers names it. */
  readonly problemType: Classifier['problemType'];
}

const describeClassifier = (classifier: Classifier): ClassifierDescription => ({
  classes: classesOf(classifier),
  labels: classifier.labels,
  problemType: classifier.problemType,
});

export interface AdapterDescription {
  readonly format: AdapterFormat;
  /** As the files say it. */
  readonly base: string | null;
  readonly parent: string | null;
  /** Tokens from whose last occurrence in a prompt on it acts; absent = on every token. */
  readonly invocation?: Invocation;
  /** Its classification head; absent = it generates text. */
  readonly classifier?: ClassifierDescription;
  /** Size of the weights file, bytes. */
  readonly bytes: number;
  /** Numbers in all A and B. */
  readonly parameters: number;
  /** Largest rank. */
  readonly rank: number;
  readonly dtypes: readonly string[];
  /** Sorted by name. */
  readonly modules: readonly ModuleDescription[];
  /** Sorted by name. */
  readonly targets: readonly AdapterTarget[];
  readonly warnings: readonly string[];
}

/** A canonical file, without its values. */
export interface AdapterSummary {
  readonly base: string;
  readonly parent: string | null;
  /** As in {@link AdapterDescription}. */
  readonly invocation?: Invocation;
  readonly classifier?: ClassifierDescription;
  /** Size of the file, bytes. */
  readonly bytes: number;
  /** Largest rank. */
  readonly rank: number;
  readonly modules: number;
  /** Numbers in all A and B. */
  readonly parameters: number;
  readonly dtypes: readonly string[];
  /** Sorted by name. */
  readonly targets: readonly AdapterTarget[];
}

/** @param params.bytes size of the weights file. */
export function describeAdapter(params: { read: ReadAdapter; bytes: number }): AdapterDescription {
  const { format, baseModel, parent, modules, invocation, classifier, warnings } = params.read;
  return {
    format,
    base: baseModel,
    parent,
    ...(invocation === undefined ? {} : { invocation }),
    ...(classifier === undefined ? {} : { classifier: describeClassifier(classifier) }),
    bytes: params.bytes,
    ...totals(modules),
    modules: modules.map((module) => ({
      name: module.name,
      rank: module.rank,
      alpha: module.alpha,
      scale: module.scale,
      dtype: module.a.dtype === module.b.dtype ? module.a.dtype : `${module.a.dtype}/${module.b.dtype}`,
      in: inFeatures(module),
      out: outFeatures(module),
      norm: deltaNorm(module),
    })),
    warnings,
  };
}

/** @param bytes a canonical file. @throws AdapterFormatError */
export function inspectAdapter(bytes: Uint8Array): AdapterSummary {
  const { config, modules, classifier } = parseCanonical(bytes);
  return {
    base: config.base,
    parent: config.parent,
    ...(config.invocation === undefined ? {} : { invocation: config.invocation }),
    ...(classifier === undefined ? {} : { classifier: describeClassifier(classifier) }),
    bytes: bytes.byteLength,
    modules: modules.length,
    ...totals(modules),
  };
}

function totals(modules: readonly LoraModule[]) {
  const targets = new Map<string, AdapterTarget>();
  let parameters = 0;
  for (const module of modules) {
    parameters += module.rank * (inFeatures(module) + outFeatures(module));
    const target = module.name.replace(/^.*\.layers\.\d+\./, '');
    const seen = targets.get(target);
    targets.set(target, {
      target,
      modules: (seen?.modules ?? 0) + 1,
      minRank: Math.min(seen?.minRank ?? Infinity, module.rank),
      maxRank: Math.max(seen?.maxRank ?? 0, module.rank),
    });
  }
  return {
    rank: modules.reduce((rank, module) => Math.max(rank, module.rank), 0),
    parameters,
    dtypes: [...new Set(modules.flatMap(({ a, b }) => [a.dtype, b.dtype]))].sort(),
    targets: [...targets.values()].sort((a, b) => (a.target < b.target ? -1 : 1)),
  };
}
