import { GraphBuilder, MICROSOFT } from '../model/onnx-proto.ts';
import { BLOCK, quantizeBlocks } from '../model/quantize.ts';
import { int4Product } from '../model/weight-products.ts';
import { allocate, type OrtEnvironment, type OrtSession } from './ort-session.ts';

/** Long enough that saturating 16-bit pairs (255 * 127 * 2 > 32,767) would show. */
const DEPTH = 512;
const COLUMNS = 96;

/** One row, a few, and enough for every tile of the blocked kernels. */
const ROWS = [1, 3, 16, 33, 128];

/** @returns what the graph's `y` `[1, rows, COLUMNS]` is for its input `x` `[1, rows, DEPTH]`. */
async function product(
  env: OrtEnvironment,
  session: OrtSession,
  x: { type: 'u8' | 'f32'; data: Uint8Array | Float32Array },
): Promise<Float32Array> {
  const rows = x.data.length / DEPTH;
  const size = rows * COLUMNS;
  const result = new Float32Array(allocate(size * 4));
  const input = env.tensor(x.type, x.data, [1, rows, DEPTH]);
  const output = env.tensor('f32', result, [1, rows, COLUMNS]);
  const binding = session.bind();
  binding.input('x', input);
  binding.output('y', output);
  await binding.run();
  binding.close();
  input.close();
  output.close();
  return result.subarray(0, size);
}

/**
 * Finds the int8 kernel that is exact on this processor, the fast one first, and sets the environment accordingly.
 * @returns false when none is; int8 weights would then be silently wrong.
 */
export async function chooseExactInt8(env: OrtEnvironment): Promise<boolean> {
  for (const precise of [false, true]) {
    env.preciseInt8 = precise;
    if (await int8IsExact(env)) return true;
  }
  return false;
}

/**
 * Multiplies rows of 255 by columns of 127 in the int8 kernel.
 * @returns whether the sums are exact.
 */
export async function int8IsExact(env: OrtEnvironment): Promise<boolean> {
  const g = new GraphBuilder();
  g.input('x', 'u8', [1, 'M', DEPTH]);
  g.constant('w', 'i8', [DEPTH, COLUMNS], new Int8Array(DEPTH * COLUMNS).fill(127));
  g.constant('one', 'f32', [], new Float32Array([1]));
  g.constant('zero', 'u8', [], new Uint8Array([0]));
  g.node('MatMulIntegerToFloat', ['x', 'w', 'one', 'one', 'zero'], 'y', {}, MICROSOFT);
  g.output('y', 'f32', [1, 'M', COLUMNS]);
  const session = env.session(g.build('self-test'), new Map());
  try {
    for (const rows of ROWS) {
      const data = new Uint8Array(allocate(rows * DEPTH)).fill(255);
      const sums = await product(env, session, { type: 'u8', data });
      if (sums.some((value) => value !== 255 * 127 * DEPTH)) return false;
    }
    return true;
  } finally {
    session.close();
  }
}

/**
 * Multiplies rows by 4 bit weights, alone and among others: ONNX Runtime has kernels of its own for one row, for tiles
 * and for what is left over, and nobody promises that they round alike.
 * @returns whether each row has the same bits in all of them.
 */
export async function int4RowsStandAlone(env: OrtEnvironment): Promise<boolean> {
  const weight = Float32Array.from({ length: COLUMNS * DEPTH }, (_, at) =>
    Math.sin(1.3 * at + 0.001 * at * at),
  );
  const { values, scales, zeros } = quantizeBlocks(weight, COLUMNS, DEPTH);
  const g = new GraphBuilder();
  g.input('x', 'f32', [1, 'M', DEPTH]);
  g.constant('w', 'u8', [COLUMNS, DEPTH / BLOCK, BLOCK / 2], values);
  g.constant('s', 'f32', [scales.length], scales);
  g.constant('z', 'u8', [zeros.length], zeros);
  int4Product(g, ['x', 'w', 's', 'z'], { K: DEPTH, N: COLUMNS }, 'y');
  g.output('y', 'f32', [1, 'M', COLUMNS]);
  const session = env.session(g.build('self-test-int4'), new Map());
  const all = Float32Array.from({ length: Math.max(...ROWS) * DEPTH }, (_, at) =>
    Math.cos(0.7 * at + 0.0003 * at * at),
  );
  const of = (from: number, rows: number): Promise<Float32Array> => {
    const data = new Float32Array(allocate(rows * DEPTH * 4));
    data.set(all.subarray(from * DEPTH, (from + rows) * DEPTH));
    return product(env, session, { type: 'f32', data });
  };
  try {
    const alone = new Float32Array(Math.max(...ROWS) * COLUMNS);
    for (let row = 0; row < Math.max(...ROWS); row++) alone.set(await of(row, 1), row * COLUMNS);
    for (const rows of ROWS) if ((await of(0, rows)).some((value, at) => value !== alone[at])) return false;
    return true;
  } finally {
    session.close();
  }
}
