/** Deltas as whole matrices, the slow and plain way: what the code under test never makes. */
import fc from 'fast-check';
import { inFeatures, makeLoraModule, outFeatures, toFloat32, type LoraModule } from '../../adapters/index.ts';
import { tensor } from './make-adapter.ts';

/** scale * B A, row-major `[out, in]`, float64. */
export function denseDelta(module: LoraModule, scale = 1): Float64Array {
  const [inputs, outputs] = [inFeatures(module), outFeatures(module)];
  const [a, b] = [toFloat32(module.a), toFloat32(module.b)];
  const delta = new Float64Array(outputs * inputs);
  for (let o = 0; o < outputs; o++)
    for (let i = 0; i < inputs; i++)
      for (let r = 0; r < module.rank; r++)
        delta[o * inputs + i]! += scale * module.scale * b[o * module.rank + r]! * a[r * inputs + i]!;
  return delta;
}

export const add = (x: Float64Array, y: Float64Array): Float64Array => x.map((value, i) => value + y[i]!);

export const dot = (x: Float64Array, y: Float64Array): number =>
  x.reduce((sum, value, i) => sum + value * y[i]!, 0);

export const norm = (x: Float64Array): number => Math.sqrt(dot(x, x));

/** |x - y| / |y|, or |x - y| where y is zero. */
export function distance(x: Float64Array, y: Float64Array): number {
  const difference = norm(x.map((value, i) => value - y[i]!));
  return norm(y) === 0 ? difference : difference / norm(y);
}

/** Singular values of a row-major matrix, largest first: columns are rotated in pairs until they are orthogonal. */
export function denseSingularValues(matrix: Float64Array, rows: number, columns: number): number[] {
  const column = Array.from({ length: columns }, (_, c) =>
    Float64Array.from({ length: rows }, (_, r) => matrix[r * columns + c]!),
  );
  for (let sweep = 0, turned = true; turned && sweep < 60; sweep++) {
    turned = false;
    for (let p = 0; p < columns; p++)
      for (let q = p + 1; q < columns; q++) {
        const [x, y] = [column[p]!, column[q]!];
        const [xx, yy, xy] = [dot(x, x), dot(y, y), dot(x, y)];
        if (Math.abs(xy) <= 1e-15 * Math.sqrt(xx * yy)) continue;
        turned = true;
        const angle = 0.5 * Math.atan2(2 * xy, xx - yy);
        const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
        column[p] = x.map((value, i) => cosine * value + sine * y[i]!);
        column[q] = y.map((value, i) => cosine * value - sine * x[i]!);
      }
  }
  return column.map(norm).sort((a, b) => b - a);
}

const values = (count: number) =>
  fc.array(fc.double({ min: -2, max: 2, noNaN: true }), { minLength: count, maxLength: count });

/** Modules for one layer `[out, in]`, ranks 1 … `maxRank`, any scale but zero. */
export const anyModule = (params: { name: string; in: number; out: number; maxRank: number }) =>
  fc.integer({ min: 1, max: params.maxRank }).chain((rank) =>
    fc
      .record({
        alpha: fc.constantFrom(1, 2, 8, 0.5, -4),
        a: values(rank * params.in),
        b: values(params.out * rank),
      })
      .map(({ alpha, a, b }) =>
        makeLoraModule({
          name: params.name,
          rank,
          alpha,
          a: tensor([rank, params.in], a),
          b: tensor([params.out, rank], b),
        }),
      ),
  );
