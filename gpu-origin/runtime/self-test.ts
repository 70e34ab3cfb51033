import { GraphBuilder, MICROSOFT } from '../model/onnx-proto.ts';
import type { Device } from './device.ts';

/** Long enough that saturating 16-bit pairs (255 * 127 * 2 > 32,767) would show. */
const DEPTH = 512;
const COLUMNS = 96;

/** One row, a few, and enough for every tile of the blocked kernels. */
const ROWS = [1, 3, 16, 33, 128];

/**
 * Finds the int8 kernel that is exact on this processor, the fast one first, and sets the device accordingly.
 * @returns false when none is; int8 weights would then be silently wrong.
 */
export async function chooseExactInt8(device: Device): Promise<boolean> {
  for (const precise of [false, true]) {
    device.preciseInt8 = precise;
    if (await int8IsExact(device)) return true;
  }
  return false;
}

/**
 * Multiplies rows of 255 by columns of 127 in the int8 kernel.
 * @returns whether the sums are exact.
 */
export async function int8IsExact(device: Device): Promise<boolean> {
  const g = new GraphBuilder();
  g.input('a', 'u8', [1, 'M', DEPTH]);
  g.constant('w', 'i8', [DEPTH, COLUMNS], new Int8Array(DEPTH * COLUMNS).fill(127));
  g.constant('one', 'f32', [], new Float32Array([1]));
  g.constant('zero', 'u8', [], new Uint8Array([0]));
  g.node('MatMulIntegerToFloat', ['a', 'w', 'one', 'one', 'zero'], 'y', {}, MICROSOFT);
  g.output('y', 'f32', [1, 'M', COLUMNS]);
  const session = await device.session(g.build('self-test'), null);
  const most = Math.max(...ROWS);
  const input = await device.host(most * DEPTH);
  const output = await device.host(most * COLUMNS * Float32Array.BYTES_PER_ELEMENT);
  new Uint8Array(input.buffer, input.offset, most * DEPTH).fill(255);
  try {
    for (const rows of ROWS) {
      const tensors = [
        device.tensor('u8', input, 0, [1, rows, DEPTH]),
        device.tensor('f32', output, 0, [1, rows, COLUMNS]),
      ] as const;
      const binding = session.bind();
      binding.input('a', tensors[0]);
      binding.output('y', tensors[1]);
      const result = new Float32Array(output.buffer, output.offset, rows * COLUMNS).fill(0);
      await binding.run();
      binding.close();
      for (const tensor of tensors) tensor.close();
      if (result.some((value) => value !== 255 * 127 * DEPTH)) return false;
    }
    return true;
  } finally {
    session.close();
    input.close();
    output.close();
  }
}
