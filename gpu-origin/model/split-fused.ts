import {
  type BaseModel,
  linearShape,
  LINEAR_KINDS,
  moduleName,
  storedLinears,
  storedShape,
} from './base-model.ts';

/** The base with its fused linears (Phi-3) under the names of their parts: rows of q, k and v, of gate and up. */
export function splitFused(base: BaseModel): BaseModel {
  const { config } = base;
  if (!config.fused) return base;
  const parts = new Map<string, { stored: string; shape: number[]; begin: number; end: number }>();
  for (let layer = 0; layer < config.layers; layer++)
    for (const linear of storedLinears(config, layer)) {
      const whole = storedShape(config, linear);
      let row = 0;
      for (const kind of LINEAR_KINDS.filter((one) => linear.kinds.includes(one))) {
        const { out } = linearShape(config, kind);
        parts.set(`${moduleName(layer, kind)}.weight`, {
          stored: `${linear.name}.weight`,
          shape: [whole.out, whole.in],
          begin: row * whole.in,
          end: (row + out) * whole.in,
        });
        row += out;
      }
    }
  return {
    ...base,
    tensor(name, shape) {
      const part = parts.get(name);
      if (part === undefined) return base.tensor(name, shape);
      return base.tensor(part.stored, part.shape).slice(part.begin, part.end);
    },
  };
}
