/** What others are told of a base that is served. */
import type { BaseInfo } from '../../protocol/index.ts';
import { type BaseModel, storedLinears, storedShape } from '../model/base-model.ts';
import type { Precision } from '../model/graph-form.ts';
import type { WeightFormat } from '../model/prepare-weights.ts';
import type { Provider } from './device.ts';

/** Largest rank sum of a chain; a row's delta then costs at most 8x that of rank 32. */
const MAX_RANK_SUM = 256;
export function describeBase(
  base: BaseModel,
  served: {
    format: WeightFormat;
    context: number;
    provider: Provider;
    /** float32 unless given. */
    precision?: Precision;
    bits: boolean;
  },
): BaseInfo {
  const { format, context, provider, precision, bits } = served;
  const modules = [];
  for (let layer = 0; layer < base.config.layers; layer++)
    for (const linear of storedLinears(base.config, layer))
      modules.push({ name: linear.name, ...storedShape(base.config, linear) });
  return {
    id: base.id,
    digest: base.digest,
    weights: format,
    context,
    max_rank_sum: MAX_RANK_SUM,
    provider,
    ...(precision === 'f16' ? { precision } : {}),
    promise: bits ? 'bits' : 'tolerance',
    architecture: base.config.family,
    attention: { heads: base.config.heads, kv_heads: base.config.kvHeads },
    modules,
  };
}
