import { encodeCanonical, makeLoraModule, type Tensor } from '../../adapters/index.ts';
import { baseIdOf } from '../../protocol/identity.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { createHash } from 'node:crypto';

const MODULE = 'model.layers.0.self_attn.q_proj';
const WIDE_MODULE = 'model.layers.0.mlp.up_proj';
const TINY_HIDDEN = 8;

/** A base with one small linear layer and one so wide that an adapter for it needs several parts. */
export const TINY_BASE: BaseInfo = {
  id: baseIdOf('tiny/Tiny-Base'),
  digest: 'b'.repeat(64),
  weights: 'f32',
  context: 128,
  hidden: TINY_HIDDEN,
  max_rank_sum: 256,
  modules: [
    { name: MODULE, in: 8, out: 6 },
    { name: WIDE_MODULE, in: 32_768, out: 32_768 },
  ],
};

export interface TinyAdapter {
  bytes: Buffer;
  digest: string;
}

/** F32 values that depend on the seed. */
function tensor(rows: number, columns: number, seed: number): Tensor {
  const values = new Float32Array(rows * columns);
  for (let i = 0; i < values.length; i += 1) values[i] = ((i * 31 + seed * 17) % 13) / 13 + 0.01;
  return { dtype: 'F32', shape: [rows, columns], data: new Uint8Array(values.buffer) };
}

/** @param params.shape of the base's layer; the right one unless a test wants it wrong. */
export function tinyAdapter(params: {
  seed: number;
  parent?: string | null;
  rank?: number;
  wide?: boolean;
  /** Another layer of the base's. */
  module?: string;
  shape?: { in: number; out: number };
  /** Id of its base; that of {@link TINY_BASE} unless given. */
  base?: string;
  /** Tokens from which on it acts; on every token unless given. */
  invocation?: readonly number[];
  /** Classes of its classification head; it has none unless given. */
  classes?: number;
}): TinyAdapter {
  const rank = params.rank ?? 2;
  const shape = params.shape ?? (params.wide ? { in: 32_768, out: 32_768 } : { in: 8, out: 6 });
  const module = makeLoraModule({
    name: params.module ?? (params.wide ? WIDE_MODULE : MODULE),
    rank,
    alpha: rank,
    a: tensor(rank, shape.in, params.seed),
    b: tensor(shape.out, rank, params.seed + 1),
  });
  const { classes } = params;
  const classifier =
    classes === undefined
      ? undefined
      : { weight: tensor(classes, TINY_HIDDEN, params.seed), labels: null, problemType: null };
  const bytes = Buffer.from(
    encodeCanonical({
      ...{ base: params.base ?? TINY_BASE.id, parent: params.parent ?? null },
      ...{ modules: [module], invocation: params.invocation, classifier },
    }),
  );
  return { bytes, digest: createHash('sha256').update(bytes).digest('hex') };
}
