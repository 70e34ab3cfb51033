/** Adapters and chains of them in the form the graphs take: per linear A `[R, in]` and B `[R, out]`, both contiguous. */
import {
  type LoraModule,
  parseCanonical,
  readFloat32,
  toFloat32,
  validateAdapter,
} from '../../adapters/index.ts';
import type { BaseInfo } from '../../protocol/index.ts';
import type { ChainMember, ResidentAdapter, RowDelta } from '../engine/ports.ts';
import {
  type BaseModel,
  LINEAR_KINDS,
  type LinearKind,
  linearShape,
  type LlamaConfig,
  storedLinears,
} from '../model/base-model.ts';
import { DELTA_KINDS, type GraphKind } from '../model/graph-form.ts';
import { foldGain, gainBefore, ROTATED } from '../model/prepare-weights.ts';
import { transpose } from '../model/quantize.ts';
import { rotateColumns, type RotationSet } from '../model/rotation.ts';
import { nextTurn } from './next-turn.ts';

/** Ranks that rows are padded to with zeros, so that few tensor shapes occur. */
const RANK_BUCKETS = [4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];

/** @returns the smallest bucket that holds `rank`; 0 for 0. */
export function rankBucket(rank: number): number {
  if (rank === 0) return 0;
  const bucket = RANK_BUCKETS.find((size) => size >= rank);
  if (bucket === undefined) throw new Error(`a rank sum of ${rank} exceeds ${RANK_BUCKETS.at(-1)}`);
  return bucket;
}

export type RankByKind = Record<LinearKind, number>;

export const noRanks = (): RankByKind => ({ q: 0, k: 0, v: 0, o: 0, gate: 0, up: 0, down: 0 });

/** The smallest graph whose deltas cover every kind with a rank above 0. */
export function graphFor(ranks: RankByKind): GraphKind {
  const used = LINEAR_KINDS.filter((kind) => ranks[kind] > 0);
  if (used.length === 0) return 'none';
  return used.every((kind) => DELTA_KINDS.qv.includes(kind)) ? 'qv' : 'all';
}

export const moduleKey = (layer: number, kind: LinearKind): string => `${layer}.${kind}`;

interface ModuleDelta {
  /** `[R, in]` */
  a: Float32Array<ArrayBuffer>;
  /** `[R, out]`, every scale folded in. */
  b: Float32Array<ArrayBuffer>;
}

/** A linear of one adapter, with zeros up to the bucket of the largest rank that the adapter has in this kind. */
interface RotatedModule extends ModuleDelta {
  /** Its own. */
  rank: number;
}

/** One adapter, rotated as its base is; float32. */
class OrtResidentAdapter implements ResidentAdapter {
  readonly rank: number;
  readonly bytes: number;
  constructor(
    readonly digest: string,
    readonly modules: ReadonlyMap<string, RotatedModule>,
  ) {
    let rank = 0;
    let bytes = 0;
    for (const module of modules.values()) {
      rank = Math.max(rank, module.rank);
      bytes += module.a.byteLength + module.b.byteLength;
    }
    this.rank = rank;
    this.bytes = bytes;
  }
}

/** The whole delta of a row. R of a kind is the same in all layers: the largest rank sum there, in its bucket. */
export class OrtRowDelta implements RowDelta {
  readonly rank: number;
  constructor(
    readonly ranks: RankByKind,
    readonly modules: ReadonlyMap<string, ModuleDelta>,
    readonly bytes: number,
  ) {
    this.rank = Math.max(...Object.values(ranks));
  }
  get graph(): GraphKind {
    return graphFor(this.ranks);
  }
}

function rankSums(config: LlamaConfig, chain: readonly OrtResidentAdapter[]): RankByKind {
  const ranks = noRanks();
  for (const kind of LINEAR_KINDS)
    for (let layer = 0; layer < config.layers; layer++) {
      const sum = chain.reduce(
        (total, adapter) => total + (adapter.modules.get(moduleKey(layer, kind))?.rank ?? 0),
        0,
      );
      ranks[kind] = Math.max(ranks[kind], rankBucket(sum));
    }
  return ranks;
}

/**
 * Sum of the chain's deltas, exactly: ranks side by side. A lone member at scale 1 is not copied.
 * @param chain root first; members made by `OrtRunner.loadAdapter`.
 */
export function composeDelta(config: LlamaConfig, chain: readonly ChainMember[]): OrtRowDelta {
  const members = chain.map(({ adapter, scale }) => {
    if (!(adapter instanceof OrtResidentAdapter)) throw new Error('the adapter was loaded by another runner');
    return { adapter, scale };
  });
  const ranks = rankSums(
    config,
    members.map(({ adapter }) => adapter),
  );
  const modules = new Map<string, ModuleDelta>();
  let bytes = 0;
  for (const kind of LINEAR_KINDS) {
    const shape = linearShape(config, kind);
    const rank = ranks[kind];
    if (rank === 0) continue;
    for (let layer = 0; layer < config.layers; layer++) {
      const key = moduleKey(layer, kind);
      const only =
        members.length === 1 && members[0]?.scale === 1 ? members[0].adapter.modules.get(key) : undefined;
      if (only !== undefined) {
        modules.set(key, only);
        continue;
      }
      const a = new Float32Array(rank * shape.in);
      const b = new Float32Array(rank * shape.out);
      let at = 0;
      for (const { adapter, scale } of members) {
        const module = adapter.modules.get(key);
        if (module === undefined) continue;
        a.set(module.a.subarray(0, module.rank * shape.in), at * shape.in);
        const to = at * shape.out;
        const own = module.rank * shape.out;
        for (let i = 0; i < own; i++) b[to + i] = module.b[i]! * scale;
        at += module.rank;
      }
      modules.set(key, { a, b });
      bytes += a.byteLength + b.byteLength;
    }
  }
  return new OrtRowDelta(ranks, modules, bytes);
}

/** How a base's weights were transformed, and so how its adapters must be. */
export interface WeightTransform {
  /** Gain of the norm before a linear, folded into its input; null where there is none. */
  gains: (layer: number, kind: LinearKind) => Float32Array | null;
  /** null = the weights are not rotated. */
  rotations: RotationSet | null;
}

/** Gains are needed whenever an adapter is loaded, so they stay in memory: a few vectors a layer. */
export function readGains(base: BaseModel): (layer: number, kind: LinearKind) => Float32Array | null {
  const gains = Array.from(
    { length: base.config.layers },
    (_, layer) => new Map(LINEAR_KINDS.map((kind) => [kind, gainBefore(base, layer, kind)])),
  );
  return (layer, kind) => gains[layer]?.get(kind) ?? null;
}

/**
 * Transforms one module's delta exactly as its base weight was: A' = A diag(gain) R, B' = R^T B, and B transposed.
 * @param a `[rank, in]` @param b `[out, rank]` @param padded `[padded, in]` and `[padded, out]` are made, the rest zeros.
 */
function rotateModule(
  { a, rank, scale }: Pick<LoraModule, 'a' | 'rank' | 'scale'>,
  b: Float32Array,
  params: { kind: LinearKind; padded: number; gain: Float32Array | null; rotations: RotationSet | null },
): RotatedModule {
  const { kind, padded, gain, rotations } = params;
  const [inputs, outputs] = [a.shape[1]!, b.length / rank];
  const module = { rank, a: new Float32Array(padded * inputs), b: new Float32Array(padded * outputs) };
  const ownA = module.a.subarray(0, rank * inputs);
  const ownB = module.b.subarray(0, rank * outputs);
  readFloat32(a, ownA);
  transpose(b, outputs, rank, ownB);
  if (gain !== null) foldGain(ownA, gain);
  if (rotations !== null) {
    const rotated = ROTATED[kind];
    rotateColumns(ownA, inputs, rotations[rotated.columns]);
    const rows = rotated.rows === null ? null : rotations[rotated.rows];
    // (R^T B)^T is B^T R, whose rows lie side by side.
    if (rows !== null) rotateColumns(ownB, outputs, rows);
  }
  for (let i = 0; i < ownB.length; i++) ownB[i]! *= scale;
  return module;
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
  const padded = noRanks();
  for (let layer = 0; layer < config.layers; layer++)
    for (const { name, kinds } of storedLinears(config, layer))
      for (const kind of kinds)
        padded[kind] = Math.max(padded[kind], rankBucket(byName.get(name)?.rank ?? 0));
  const modules = new Map<string, RotatedModule>();
  for (let layer = 0; layer < config.layers; layer++) {
    for (const { name, kinds } of storedLinears(config, layer)) {
      const module = byName.get(name);
      if (module === undefined) continue;
      const b = toFloat32(module.b);
      let row = 0;
      for (const kind of kinds) {
        // Parts of a fused linear share A, and each has its rows of B.
        const rows = linearShape(config, kind).out;
        const part = b.subarray(row * module.rank, (row + rows) * module.rank);
        row += rows;
        modules.set(
          moduleKey(layer, kind),
          rotateModule(module, part, { kind, padded: padded[kind], gain: gains(layer, kind), rotations }),
        );
      }
    }
    // Steps go on between layers.
    await nextTurn();
  }
  return new OrtResidentAdapter(params.digest, modules);
}
