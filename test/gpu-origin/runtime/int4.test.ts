import { afterAll, beforeAll, expect, it } from 'vitest';
import { GraphBuilder } from '../../../gpu-origin/model/onnx-proto.ts';
import { quantizeBlocks } from '../../../gpu-origin/model/prepare-weights.ts';
import { Int4Products } from '../../../gpu-origin/model/llama-graph.ts';
import type { Device } from '../../../gpu-origin/runtime/device.ts';
import { openDevice } from '../../../gpu-origin/runtime/open-device.ts';
import { chooseInt4Padding, int4RowsStandAlone } from '../../../gpu-origin/runtime/self-test.ts';
import { seeded } from '../../fixtures/tiny-base.ts';

let device: Device;
beforeAll(async () => {
  device = (await openDevice({ provider: 'cpu', threads: 2 })).device;
});
afterAll(() => device.close());

// One block, several, an odd number of them, and a shorter last one.
const WIDTHS = [32, 128, 96, 48, 100];
const CASES = WIDTHS.flatMap((K) =>
  [false, true].flatMap((padsLoneRow) => [1, 5].map((rows) => ({ K, padsLoneRow, rows }))),
);

it.each(CASES)(
  'equals the product of the values that the weights represent: $K columns, $rows rows, padded $padsLoneRow',
  async (each) => {
    const { K, padsLoneRow, rows } = each;
    const N = 24;
    const random = seeded(K);
    const weight = Float32Array.from({ length: N * K }, random);
    const memories = [await device.host(rows * K * 4), await device.host(rows * N * 4)] as const;
    const [x, y] = memories.map(
      ({ buffer, offset, bytes }) => new Float32Array(buffer, offset, bytes / 4),
    ) as [Float32Array, Float32Array];
    x.forEach((_, at) => (x[at] = random()));
    const { values, scales, zeros } = quantizeBlocks(weight, N, K);
    const blocks = Math.ceil(K / 32);
    const g = new GraphBuilder();
    g.input('x', 'f32', ['M', 1, K]);
    g.constant('w', 'u8', [N, blocks, 16], values);
    g.constant('s', 'f32', [scales.length], scales);
    g.constant('z', 'u8', [zeros.length], zeros);
    new Int4Products(g, padsLoneRow).multiply(['x', 'w', 's', 'z'], { K, N }, 'y');
    g.output('y', 'f32', ['M', 1, N]);
    const session = await device.session(g.build('int4'), null);
    const input = device.tensor('f32', memories[0], 0, [rows, 1, K]);
    const output = device.tensor('f32', memories[1], 0, [rows, 1, N]);
    const binding = session.bind();
    binding.input('x', input);
    binding.output('y', output);
    await binding.run();
    for (const made of [binding, input, output, session]) made.close();
    const half = (bytes: Uint8Array, at: number): number => (bytes[at >> 1]! >> (4 * (at & 1))) & 15;
    for (let row = 0; row < rows; row++)
      for (let n = 0; n < N; n++) {
        let sum = 0;
        for (let k = 0; k < K; k++) {
          const zero = half(zeros, n * 2 * Math.ceil(blocks / 2) + (k >> 5));
          sum +=
            x[row * K + k]! * scales[n * blocks + (k >> 5)]! * (half(values, n * blocks * 32 + k) - zero);
        }
        // x is rounded to 1/127 of its block's largest value, at most 1: an error of at most 0.004 per
        // number, of either sign.
        expect(Math.abs(y[row * N + n]! - sum)).toBeLessThan(0.004 * Math.sqrt(K) * 2);
      }
    for (const memory of memories) memory.close();
  },
);

it('a 4-bit row has the same bits alone and in a batch, padded only if needed', async () => {
  expect(await int4RowsStandAlone(device, true)).toBe(true);
  expect(await chooseInt4Padding(device)).toBe(!(await int4RowsStandAlone(device, false)));
});
