import { afterAll, beforeAll, expect, it } from 'vitest';
import { GraphBuilder } from '../../../gpu-origin/model/onnx-proto.ts';
import { quantizeBlocks } from '../../../gpu-origin/model/quantize.ts';
import { int4Product } from '../../../gpu-origin/model/weight-products.ts';
import { ortLibrary } from '../../../gpu-origin/runtime/ort-library.ts';
import { allocate, OrtEnvironment } from '../../../gpu-origin/runtime/ort-session.ts';
import { int4RowsStandAlone } from '../../../gpu-origin/runtime/self-test.ts';
import { seeded } from '../../fixtures/tiny-base.ts';

let env: OrtEnvironment;
beforeAll(() => (env = new OrtEnvironment(ortLibrary(), 2)));
afterAll(() => env.close());

// A block, several, an odd number of them, and a last one that is shorter.
it.each([32, 128, 96, 48, 100])('is the product that its values stand for, %i columns', async (K) => {
  const [N, rows] = [24, 5];
  const random = seeded(K);
  const weight = Float32Array.from({ length: N * K }, random);
  const x = new Float32Array(allocate(rows * K * 4)).map(random);
  const { values, scales, zeros } = quantizeBlocks(weight, N, K);
  const blocks = Math.ceil(K / 32);
  const g = new GraphBuilder();
  g.input('x', 'f32', ['M', K]);
  g.constant('w', 'u8', [N, blocks, 16], values);
  g.constant('s', 'f32', [scales.length], scales);
  g.constant('z', 'u8', [zeros.length], zeros);
  int4Product(g, ['x', 'w', 's', 'z'], { K, N }, 'y');
  g.output('y', 'f32', ['M', N]);
  const session = env.session(g.build('int4'), new Map());
  const [input, y] = [env.tensor('f32', x, [rows, K]), new Float32Array(allocate(rows * N * 4))];
  const output = env.tensor('f32', y, [rows, N]);
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
        sum += x[row * K + k]! * scales[n * blocks + (k >> 5)]! * (half(values, n * blocks * 32 + k) - zero);
      }
      // x is rounded to 1/127 of its block's largest, at most 1: an error of at most 0.004 a number, of either sign.
      expect(Math.abs(y[row * N + n]! - sum)).toBeLessThan(0.004 * Math.sqrt(K) * 2);
    }
});

it('a row in 4 bit has its bits alone and among others', async () => {
  expect(await int4RowsStandAlone(env)).toBe(true);
});
