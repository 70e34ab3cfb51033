import type { Layers } from '../model/graph-form.ts';
import type { Binding, Device, DeviceTensor, HostMemory } from './device.ts';

/** Tensors of one batch size that are the same in every step. */
export interface StepTensors {
  tokens: BigInt64Array;
  lastPosition: Int32Array;
  total: Int32Array;
  logits: Float32Array;
  bound: Record<'tokens' | 'last_position' | 'total_length' | 'positions' | 'logits', DeviceTensor>;
  cache: DeviceTensor[];
  /** What all but the cache lie in, and the logits where they have a place of their own; outlives the tensors while the logits are read. */
  memory: HostMemory;
}

/** Parts of the memory begin at multiples of this, bytes: the largest vectors of a processor. */
const ALIGNMENT = 64;

/**
 * @param shape.positions of each row, whose logits are wanted. @param cache of the rows, key and value by turns.
 * @param into where the logits are to lie, from byte `at` on; in memory of their own unless given.
 */
export async function stepTensors(
  device: Device,
  shape: { rows: number; length: number; positions: readonly number[]; vocab: number },
  cache: DeviceTensor[],
  into?: { memory: HostMemory; at: number },
): Promise<StepTensors> {
  const { rows, length, positions, vocab } = shape;
  const wanted = positions.length;
  const sizes = [rows * length * 8, rows * 4, 4, rows * wanted * 8];
  const logitBytes = rows * wanted * vocab * 4;
  if (into === undefined) sizes.push(logitBytes);
  const starts: number[] = [];
  let end = 0;
  for (const size of sizes) {
    starts.push(end);
    end += Math.ceil(size / ALIGNMENT) * ALIGNMENT;
  }
  const [tokens, last, total, places] = starts as [number, number, number, number];
  const memory = await device.host(end);
  const logits = into ?? { memory, at: starts[4]! };
  const { buffer, offset } = memory;
  const positionsView = new BigInt64Array(buffer, offset + places, rows * wanted);
  for (let row = 0; row < rows; row++) positionsView.set(positions.map(BigInt), row * wanted);
  return {
    tokens: new BigInt64Array(buffer, offset + tokens, rows * length),
    lastPosition: new Int32Array(buffer, offset + last, rows),
    total: new Int32Array(buffer, offset + total, 1),
    logits: new Float32Array(logits.memory.buffer, logits.memory.offset + logits.at, rows * wanted * vocab),
    bound: {
      tokens: device.tensor('i64', memory, tokens, [rows, length]),
      last_position: device.tensor('i32', memory, last, [rows]),
      total_length: device.tensor('i32', memory, total, [1]),
      positions: device.tensor('i64', memory, places, [rows, wanted, 1]),
      logits: device.tensor('f32', logits.memory, logits.at, [rows, wanted, vocab]),
    },
    cache,
    memory,
  };
}

/** @param layers of the part that runs; all unless given. */
export function bindStep(binding: Binding, step: StepTensors, layers?: Layers): void {
  const all = step.cache.length >> 1;
  const { from, to } = layers ?? { from: 0, to: all };
  for (const name of ['last_position', 'total_length'] as const) binding.input(name, step.bound[name]);
  if (from === 0) binding.input('tokens', step.bound.tokens);
  if (to === all) {
    binding.input('positions', step.bound.positions);
    binding.output('logits', step.bound.logits);
  }
  step.cache.forEach((tensor, index) => {
    const layer = index >> 1;
    if (layer < from || layer >= to) return;
    const name = `${layer}.${index & 1 ? 'v' : 'k'}`;
    // The same memory in and out: GroupQueryAttention then appends in place.
    binding.input(`past.${name}`, tensor);
    binding.output(`present.${name}`, tensor);
  });
}
