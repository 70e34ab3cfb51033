import { GraphBuilder } from '../model/onnx-proto.ts';
import type { Device } from './device.ts';

/** 270 million multiplications and additions: milliseconds of a processor, less than one of a small GPU. */
const ROWS = 128;
const WIDTH = 512;
const PRODUCTS = 8;
/** The first one compiles shaders; of the others the fastest counts. */
const RUNS = 3;

/** @returns milliseconds of some float32 products, one after the other, input and output included. @throws OrtError */
export async function measureDevice(device: Device): Promise<number> {
  const g = new GraphBuilder();
  g.input('x', 'f32', [1, ROWS, WIDTH]);
  // Keeps what comes out in the range of what goes in.
  g.constant('w', 'f32', [WIDTH, WIDTH], new Float32Array(WIDTH * WIDTH).fill(1 / WIDTH));
  let at = 'x';
  for (let product = 1; product < PRODUCTS; product++) at = g.node('MatMul', [at, 'w'], `x.${product}`);
  g.node('MatMul', [at, 'w'], 'y');
  g.output('y', 'f32', [1, ROWS, WIDTH]);
  const session = await device.session(g.build('measure'), null);
  const bytes = ROWS * WIDTH * Float32Array.BYTES_PER_ELEMENT;
  const [input, output] = [await device.memory(bytes), await device.host(bytes)];
  input.write(0, new Float32Array(ROWS * WIDTH).fill(1));
  const tensors = [input, output].map((memory) => device.tensor('f32', memory, 0, [1, ROWS, WIDTH]));
  const binding = session.bind();
  try {
    binding.input('x', tensors[0]!);
    binding.output('y', tensors[1]!);
    let fastest = Infinity;
    for (let run = 0; run < RUNS; run++) {
      const start = performance.now();
      await binding.run();
      fastest = Math.min(fastest, performance.now() - start);
    }
    return fastest;
  } finally {
    binding.close();
    for (const tensor of tensors) tensor.close();
    for (const memory of [input, output]) memory.close();
    session.close();
  }
}
