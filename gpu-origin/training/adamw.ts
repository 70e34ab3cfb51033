/** The optimizer and its schedule. Pure. */
import type { Parameter } from './frozen-base.ts';

/** As Tinker's cookbook and others train low-rank deltas: no decay, and a shorter memory than PyTorch's 0.999. */
export const BETAS = [0.9, 0.95] as const;
const [BETA_1, BETA_2] = BETAS;
const EPSILON = 1e-8;
/** Gradients are scaled down to this norm, over all parameters together. */
export const CLIP_NORM = 1;
/** Share of the steps in which the rate rises, and where it ends, as a share of the largest. */
const WARM_UP = 0.05;
const LAST_RATE = 0.1;

/** The rate of a step: a linear rise, then half a cosine. @param step from 0 */
export function rateOf(step: number, steps: number, largest: number): number {
  const rise = Math.max(1, Math.round(steps * WARM_UP));
  if (step < rise) return (largest * (step + 1)) / rise;
  const share = steps === rise ? 1 : (step - rise) / (steps - rise);
  return largest * (LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + Math.cos(Math.PI * share)));
}

/** Adam with decoupled weight decay of 0 (Loshchilov & Hutter 2019, arXiv:1711.05101), as torch.optim.AdamW. */
export class AdamW {
  /** First and second moments, in the parameters' order. */
  readonly m: readonly Float32Array<ArrayBuffer>[];
  readonly v: readonly Float32Array<ArrayBuffer>[];
  /** Updates so far. */
  step = 0;

  constructor(private readonly parameters: readonly Parameter[]) {
    this.m = parameters.map(({ values }) => new Float32Array(values.length));
    this.v = parameters.map(({ values }) => new Float32Array(values.length));
  }

  /**
   * Changes the values by the gradients, which become zeros.
   * @returns the gradients' norm before it is clipped; if it is not finite, nothing but the gradients has changed.
   */
  update(rate: number): number {
    const { parameters } = this;
    let squares = 0;
    for (const { gradient } of parameters) for (const g of gradient) squares += g * g;
    const norm = Math.sqrt(squares);
    if (Number.isFinite(norm)) {
      this.step += 1;
      const factor = norm > CLIP_NORM ? CLIP_NORM / (norm + 1e-6) : 1;
      const first = rate / (1 - BETA_1 ** this.step);
      const second = Math.sqrt(1 - BETA_2 ** this.step);
      parameters.forEach(({ values, gradient }, index) => {
        const [m, v] = [this.m[index]!, this.v[index]!];
        for (let i = 0; i < values.length; i++) {
          const g = gradient[i]! * factor;
          m[i] = BETA_1 * m[i]! + (1 - BETA_1) * g;
          v[i] = BETA_2 * v[i]! + (1 - BETA_2) * g * g;
          values[i]! -= (first * m[i]!) / (Math.sqrt(v[i]!) / second + EPSILON);
        }
      });
    }
    for (const { gradient } of parameters) gradient.fill(0);
    return norm;
  }
}
