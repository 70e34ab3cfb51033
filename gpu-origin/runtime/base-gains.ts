import { type BaseModel, LINEAR_KINDS, type LinearKind } from '../model/base-model.ts';
import { gainBefore } from '../model/prepare-weights.ts';

/** Gains are needed whenever an adapter is loaded, so they stay in memory: a few vectors a layer. */
export function readGains(base: BaseModel): (layer: number, kind: LinearKind) => Float32Array | null {
  const gains = Array.from(
    { length: base.config.layers },
    (_, layer) => new Map(LINEAR_KINDS.map((kind) => [kind, gainBefore(base, layer, kind)])),
  );
  return (layer, kind) => gains[layer]?.get(kind) ?? null;
}
