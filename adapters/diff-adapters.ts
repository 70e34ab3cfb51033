import { deltaFactors, innerProduct, normOf } from './linear-algebra.ts';
import { AdapterFormatError, printable } from './errors.ts';
import { inFeatures, outFeatures, textModule, type LoraModule } from './format/lora-module.ts';

export interface ModuleDiff {
  readonly name: string;
  /** -1 … 1: 1 = the same direction, 0 = nothing in common; null when one of the deltas is zero. */
  readonly cosine: number | null;
  /** Frobenius norms of scale * B A. */
  readonly normA: number;
  readonly normB: number;
}

export interface AdapterDiff {
  /** Modules that both have, sorted by name. */
  readonly modules: readonly ModuleDiff[];
  /** Of the whole deltas, all modules as one vector; modules that only one has count in its norm. */
  readonly cosine: number | null;
  readonly normA: number;
  readonly normB: number;
  readonly onlyA: readonly string[];
  readonly onlyB: readonly string[];
  /** Warnings before the two are composed, each a sentence. */
  readonly warnings: readonly string[];
}

/**
 * Threshold from which two deltas are reported as interfering. How much a sum of adapters loses tracks the
 * cosine similarity of their deltas (arXiv 2508.11985); unrelated deltas have values near 0, as random
 * directions among this many dimensions do. The bound itself is a choice: at 0.5 a quarter of each delta's
 * squared norm lies along the other.
 */
export const INTERFERENCE_COSINE = 0.5;
/** Modules listed in a warning. */
const NAMED = 3;

interface Measured {
  readonly module: LoraModule;
  /** Square of the norm of scale * B A. */
  readonly square: number;
}

function measure(module: LoraModule): Measured & { factors: ReturnType<typeof deltaFactors> } {
  const factors = deltaFactors(module);
  return { module, factors, square: module.scale ** 2 * innerProduct(factors, factors) };
}

/** Rounding can take a cosine a little past 1. */
const cosineOf = (inner: number, squareA: number, squareB: number): number | null =>
  squareA > 0 && squareB > 0
    ? Math.max(-1, Math.min(1, inner / (Math.sqrt(squareA) * Math.sqrt(squareB))))
    : null;

/**
 * Compares two adapters' deltas from their factors, without building a matrix of a layer's size. Sums in
 * float64; time is linear in the files, times the larger rank.
 * @throws AdapterFormatError `shape_mismatch` when they disagree about a layer's size.
 */
export function diffAdapters(a: readonly LoraModule[], b: readonly LoraModule[]): AdapterDiff {
  const inB = new Map(b.map((module) => [textModule(module.name), module]));
  const inA = new Set(a.map(({ name }) => textModule(name)));
  const modules: ModuleDiff[] = [];
  let [inner, squareA, squareB] = [0, 0, 0];
  for (const module of a) {
    const one = measure(module);
    squareA += one.square;
    const match = inB.get(textModule(module.name));
    if (!match) continue;
    checkSameLayer(module, match);
    const two = measure(match);
    squareB += two.square;
    const product = module.scale * match.scale * innerProduct(one.factors, two.factors);
    inner += product;
    modules.push({
      name: module.name,
      cosine: cosineOf(product, one.square, two.square),
      normA: normOf(one.square),
      normB: normOf(two.square),
    });
  }
  const onlyB = b.filter(({ name }) => !inA.has(textModule(name)));
  for (const module of onlyB) squareB += measure(module).square;
  modules.sort((x, y) => (x.name < y.name ? -1 : 1));
  const cosine = cosineOf(inner, squareA, squareB);
  return {
    modules,
    cosine,
    normA: normOf(squareA),
    normB: normOf(squareB),
    onlyA: a
      .filter(({ name }) => !inB.has(name))
      .map(({ name }) => name)
      .sort(),
    onlyB: onlyB.map(({ name }) => name).sort(),
    warnings: warningsOf(cosine, modules),
  };
}

function checkSameLayer(a: LoraModule, b: LoraModule): void {
  if (inFeatures(a) === inFeatures(b) && outFeatures(a) === outFeatures(b)) return;
  throw new AdapterFormatError({
    code: 'shape_mismatch',
    message:
      `${printable(a.name)}: one adapter is for a layer [${outFeatures(a)}, ${inFeatures(a)}], the ` +
      `other for [${outFeatures(b)}, ${inFeatures(b)}]. They are for different bases.`,
    subject: a.name,
  });
}

const interferes = (cosine: number | null): cosine is number =>
  cosine !== null && Math.abs(cosine) >= INTERFERENCE_COSINE;

function warningsOf(whole: number | null, modules: readonly ModuleDiff[]): string[] {
  const warnings: string[] = [];
  if (interferes(whole))
    warnings.push(
      whole > 0
        ? `The deltas have much in common (cosine ${whole.toFixed(2)}): their sum applies it twice. Use ` +
            'smaller scales, or train one on top of the other.'
        : `The deltas oppose each other (cosine ${whole.toFixed(2)}): their sum undoes what both ` +
            'learned. Do not compose them.',
    );
  const strong = modules
    .flatMap(({ name, cosine }) => (interferes(cosine) ? [{ name, cosine }] : []))
    .sort((x, y) => Math.abs(y.cosine) - Math.abs(x.cosine));
  if (strong.length > 0) {
    const named = strong
      .slice(0, NAMED)
      .map(({ name, cosine }) => `${printable(name)} (${cosine.toFixed(2)})`)
      .join(', ');
    warnings.push(
      `${strong.length} of ${modules.length} shared modules have a cosine of ${INTERFERENCE_COSINE} or more either way: ` +
        `${named}${strong.length > NAMED ? ', …' : ''}. Evaluate the composed adapter before you publish it.`,
    );
  }
  return warnings;
}
