import { allocate, type OrtBinding, type OrtEnvironment, type OrtTensor } from './ort-session.ts';

/** Tensors of one batch size that are the same in every step. */
export interface StepTensors {
  tokens: BigInt64Array;
  lastPosition: Int32Array;
  total: Int32Array;
  logits: Float32Array;
  bound: Record<'tokens' | 'last_position' | 'total_length' | 'positions' | 'logits', OrtTensor>;
  cache: OrtTensor[];
}

/** @param shape.positions of each row, whose logits are wanted. @param cache of the rows, key and value by turns. */
export function stepTensors(
  env: OrtEnvironment,
  shape: { rows: number; length: number; positions: readonly number[]; vocab: number },
  cache: OrtTensor[],
): StepTensors {
  const { rows, length, positions, vocab } = shape;
  const tokens = new BigInt64Array(allocate(rows * length * 8));
  const lastPosition = new Int32Array(allocate(rows * 4));
  const total = new Int32Array(allocate(4));
  const logits = new Float32Array(allocate(rows * positions.length * vocab * 4));
  const wanted = new BigInt64Array(allocate(rows * positions.length * 8));
  for (let row = 0; row < rows; row++) wanted.set(positions.map(BigInt), row * positions.length);
  const bound = {
    tokens: env.tensor('i64', tokens, [rows, length]),
    last_position: env.tensor('i32', lastPosition, [rows]),
    total_length: env.tensor('i32', total, [1]),
    positions: env.tensor('i64', wanted, [rows, positions.length, 1]),
    logits: env.tensor('f32', logits, [rows, positions.length, vocab]),
  };
  return { tokens, lastPosition, total, logits, bound, cache };
}

export function bindStep(binding: OrtBinding, step: StepTensors): void {
  for (const name of ['tokens', 'last_position', 'total_length', 'positions'] as const)
    binding.input(name, step.bound[name]);
  binding.output('logits', step.bound.logits);
  step.cache.forEach((tensor, index) => {
    const name = `${index >> 1}.${index & 1 ? 'v' : 'k'}`;
    // The same memory in and out: GroupQueryAttention then appends in place.
    binding.input(`past.${name}`, tensor);
    binding.output(`present.${name}`, tensor);
  });
}
