import { parseCanonical, toFloat32, validateAdapter } from '../../adapters/index.ts';
import type { BaseInfo } from '../../protocol/index.ts';
import { type LinearKind, linearShape, type LlamaConfig, storedLinears } from '../model/base-model.ts';
import { rotateModule, type RotatedModule } from '../model/rotate-adapter.ts';
import type { RotationSet } from '../model/rotation.ts';
import { nextTurn } from './next-turn.ts';
import { moduleKey, OrtResidentAdapter } from './row-delta.ts';

/** How a base's weights were transformed, and so how its adapters must be. */
export interface WeightTransform {
  /** Gain of the norm before a linear, folded into its input; null where there is none. */
  gains: (layer: number, kind: LinearKind) => Float32Array | null;
  /** null = the weights are not rotated. */
  rotations: RotationSet | null;
}

/** Parses a canonical file, checks it against the base and transforms it. @throws AdapterFormatError */
export async function loadResidentAdapter(
  params: {
    file: Uint8Array<ArrayBuffer>;
    digest: string;
    base: BaseInfo;
    config: LlamaConfig;
  } & WeightTransform,
): Promise<OrtResidentAdapter> {
  const { base, config, gains, rotations } = params;
  const adapter = parseCanonical(params.file);
  const problem = validateAdapter({ adapter, base })[0];
  if (problem !== undefined) throw problem;
  const byName = new Map(adapter.modules.map((module) => [module.name, module]));
  const modules = new Map<string, RotatedModule>();
  for (let layer = 0; layer < config.layers; layer++) {
    for (const { name, kinds } of storedLinears(config, layer)) {
      const module = byName.get(name);
      if (module === undefined) continue;
      const { rank, scale } = module;
      const [wholeA, wholeB] = [toFloat32(module.a), toFloat32(module.b)];
      let row = 0;
      for (const kind of kinds) {
        // Parts of a fused linear share A, and each has its rows of B.
        const rows = linearShape(config, kind).out;
        const a = kinds.length === 1 ? wholeA : wholeA.slice();
        const b = kinds.length === 1 ? wholeB : wholeB.slice(row * rank, (row + rows) * rank);
        row += rows;
        modules.set(
          moduleKey(layer, kind),
          rotateModule({ kind, rank, scale, a, b, gain: gains(layer, kind), rotations }),
        );
      }
    }
    // Steps go on between layers.
    await nextTurn();
  }
  return new OrtResidentAdapter(params.digest, modules);
}
