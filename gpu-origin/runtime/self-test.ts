import { GraphBuilder, MICROSOFT } from '../model/onnx-proto.ts';
import { allocate, type OrtEnvironment } from './ort-session.ts';

/** Long enough that saturating 16-bit pairs (255 * 127 * 2 > 32,767) would show. */
const DEPTH = 512;
const COLUMNS = 96;

/** One row, a few, and enough for every tile of the blocked kernels. */
const ROWS = [1, 3, 16, 33, 128];

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
  g.input('a', 'u8', [1, 'M', DEPTH]);
  g.constant('w', 'i8', [DEPTH, COLUMNS], new Int8Array(DEPTH * COLUMNS).fill(127));
  g.constant('one', 'f32', [], new Float32Array([1]));
  g.constant('zero', 'u8', [], new Uint8Array([0]));
  g.node('MatMulIntegerToFloat', ['a', 'w', 'one', 'one', 'zero'], 'y', {}, MICROSOFT);
  g.output('y', 'f32', [1, 'M', COLUMNS]);
  const session = env.session(g.build('self-test'), new Map());
  try {
    for (const rows of ROWS) {
      const input = env.tensor('u8', new Uint8Array(allocate(rows * DEPTH)).fill(255), [1, rows, DEPTH]);
      const result = new Float32Array(allocate(rows * COLUMNS * 4));
      const output = env.tensor('f32', result, [1, rows, COLUMNS]);
      const binding = session.bind();
      binding.input('a', input);
      binding.output('y', output);
      await binding.run();
      binding.close();
      input.close();
      output.close();
      if (result.subarray(0, rows * COLUMNS).some((value) => value !== 255 * 127 * DEPTH)) return false;
    }
    return true;
  } finally {
    session.close();
  }
}
