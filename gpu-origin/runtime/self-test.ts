import { GraphBuilder, MICROSOFT } from '../model/onnx-proto.ts';
import { BLOCK, quantizeBlocks } from '../model/quantize.ts';
import { int4Product } from '../model/graph-parts.ts';
import type { Device, Session, SessionCores } from './device.ts';

/** Long enough that saturating 16-bit pairs (255 * 127 * 2 > 32,767) would show. */
const DEPTH = 512;
const COLUMNS = 96;

/** One row, a few, and enough for every tile of the blocked kernels. */
const ROWS = [1, 3, 16, 33, 128];

/** How rows may run on this device. */
const coresOf = ({ lanes = 1 }: Device): readonly SessionCores[] => (lanes > 1 ? ['all', 'one'] : ['all']);

/** @returns what the graph's `y` `[1, rows, COLUMNS]` is for its input `x` `[1, rows, DEPTH]`. */
async function product(
  device: Device,
  session: Session,
  x: { type: 'u8' | 'f32'; data: Uint8Array | Float32Array },
): Promise<Float32Array> {
  const rows = x.data.length / DEPTH;
  const input = await device.host(x.data.byteLength);
  const output = await device.host(rows * COLUMNS * Float32Array.BYTES_PER_ELEMENT);
  new Uint8Array(input.buffer, input.offset, x.data.byteLength).set(
    new Uint8Array(x.data.buffer, x.data.byteOffset, x.data.byteLength),
  );
  const tensors = [
    device.tensor(x.type, input, 0, [1, rows, DEPTH]),
    device.tensor('f32', output, 0, [1, rows, COLUMNS]),
  ] as const;
  const binding = session.bind();
  binding.input('x', tensors[0]);
  binding.output('y', tensors[1]);
  await binding.run();
  binding.close();
  for (const tensor of tensors) tensor.close();
  const result = new Float32Array(output.buffer, output.offset, rows * COLUMNS).slice();
  input.close();
  output.close();
  return result;
}

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
  g.input('x', 'u8', [1, 'M', DEPTH]);
  g.constant('w', 'i8', [DEPTH, COLUMNS], new Int8Array(DEPTH * COLUMNS).fill(127));
  g.constant('one', 'f32', [], new Float32Array([1]));
  g.constant('zero', 'u8', [], new Uint8Array([0]));
  g.node('MatMulIntegerToFloat', ['x', 'w', 'one', 'one', 'zero'], 'y', {}, MICROSOFT);
  g.output('y', 'f32', [1, 'M', COLUMNS]);
  for (const cores of coresOf(device)) {
    const session = await device.session(g.build('self-test'), null, cores);
    try {
      for (const rows of ROWS) {
        const data = new Uint8Array(rows * DEPTH).fill(255);
        const sums = await product(device, session, { type: 'u8', data });
        if (sums.some((value) => value !== 255 * 127 * DEPTH)) return false;
      }
    } finally {
      session.close();
    }
  }
  return true;
}

/**
 * Multiplies rows by 4 bit weights, alone and among others: ONNX Runtime has kernels of its own for one row, for tiles
 * and for what is left over, and nobody promises that they round alike.
 * @returns whether each row has the same bits in all of them, on all cores and on one.
 */
export async function int4RowsStandAlone(device: Device): Promise<boolean> {
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
  const sessions: Session[] = [];
  for (const cores of coresOf(device))
    sessions.push(await device.session(g.build('self-test-int4'), null, cores));
  const all = Float32Array.from({ length: Math.max(...ROWS) * DEPTH }, (_, at) =>
    Math.cos(0.7 * at + 0.0003 * at * at),
  );
  const of = (session: Session, from: number, rows: number): Promise<Float32Array> =>
    product(device, session, { type: 'f32', data: all.subarray(from * DEPTH, (from + rows) * DEPTH) });
  try {
    const alone = new Float32Array(Math.max(...ROWS) * COLUMNS);
    for (let row = 0; row < Math.max(...ROWS); row++)
      alone.set(await of(sessions[0]!, row, 1), row * COLUMNS);
    for (const session of sessions)
      for (const rows of ROWS)
        if ((await of(session, 0, rows)).some((value, at) => value !== alone[at])) return false;
    return true;
  } finally {
    for (const session of sessions) session.close();
  }
}
