/** A base of a given shape with random weights, as `prepareWeights` would write it in int8. */
import { randomFillSync } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import {
  type LinearKind,
  linearShape,
  type LlamaConfig,
  PLAIN_FAMILY,
  type WeightEntry,
} from '../../gpu-origin/model/base-model.ts';
import {
  EMBEDDING_SCALES,
  groupName,
  HEAD_PRODUCT,
  type LinearGroup,
  rotaryNames,
} from '../../gpu-origin/model/prepare-weights.ts';
import { makeRotations } from '../../gpu-origin/model/rotation.ts';
import type { WeightTransform } from '../../gpu-origin/runtime/adapter-batch.ts';

const CONTEXT = 2_048;

/** Llama-3.2-1B (its config.json), without the stretched frequencies. */
const LLAMA_1B: LlamaConfig = {
  ...PLAIN_FAMILY,
  family: 'llama',
  hidden: 2_048,
  layers: 16,
  heads: 32,
  kvHeads: 8,
  headDim: 64,
  ffn: 8_192,
  vocab: 128_256,
  context: CONTEXT,
  rmsEpsilon: 1e-5,
  rope: { theta: 500_000, dim: 64, divisors: null, scale: 1 },
  attention: Array.from({ length: 16 }, () => ({ window: null, rope: 'rope' as const })),
  tiedHead: true,
};

export const SHAPES: Readonly<Record<string, LlamaConfig>> = { '1b': LLAMA_1B };

const GROUPS: readonly LinearGroup[] = [['q', 'k', 'v'], ['o'], ['gate', 'up'], ['down']];
/** Bytes in memory at once. */
const CHUNK = 16 * 1024 ** 2;
/** Deviation of the weights, as Llama's are initialized; random bytes have one of 74. */
const SCALE = 0.02 / 74;

/** Writes the file; at most a chunk is in memory. @returns its entries. */
export function writeRandomWeights(config: LlamaConfig, file: string): WeightEntry[] {
  const entries: WeightEntry[] = [];
  const fd = openSync(file, 'wx');
  let offset = 0;
  const write = (bytes: Uint8Array): void => {
    for (let done = 0; done < bytes.length;)
      done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
    offset += bytes.length;
  };
  const floats = (name: string, dims: number[], values: Float32Array<ArrayBuffer>): void => {
    entries.push({ name, type: 'f32', dims, offset, bytes: values.byteLength });
    write(new Uint8Array(values.buffer));
  };
  const integers = (name: string, dims: number[]): void => {
    const bytes = dims.reduce((product, size) => product * size, 1);
    entries.push({ name, type: 'i8', dims, offset, bytes });
    const chunk = Buffer.alloc(Math.min(CHUNK, bytes));
    for (let left = bytes; left > 0; left -= chunk.length) write(randomFillSync(chunk).subarray(0, left));
  };
  const linear = (name: string, inputs: number, outputs: number): void => {
    integers(`${name}.w`, [inputs, outputs]);
    floats(`${name}.s`, [outputs], new Float32Array(outputs).fill(SCALE));
  };
  try {
    const { hidden, vocab, layers, rope } = config;
    integers('embed', [vocab, hidden]);
    floats(EMBEDDING_SCALES, [vocab, 1], new Float32Array(vocab).fill(SCALE));
    linear(HEAD_PRODUCT, hidden, vocab);
    const { cos, sin } = rotaryNames('rope');
    const half = rope.dim / 2;
    const angle = (at: number): number =>
      Math.floor(at / half) * rope.theta ** ((-2 * (at % half)) / rope.dim);
    const table = { length: CONTEXT * half };
    floats(
      cos,
      [CONTEXT, half],
      Float32Array.from(table, (_, at) => Math.cos(angle(at))),
    );
    floats(
      sin,
      [CONTEXT, half],
      Float32Array.from(table, (_, at) => Math.sin(angle(at))),
    );
    const outputsOf = (kinds: readonly LinearKind[]): number =>
      kinds.reduce((sum, kind) => sum + linearShape(config, kind).out, 0);
    for (let layer = 0; layer < layers; layer++)
      for (const group of GROUPS)
        linear(groupName(layer, group), linearShape(config, group[0]).in, outputsOf(group));
  } finally {
    closeSync(fd);
  }
  return entries;
}

/** Its basis; gains of 1 are folded in. */
export function transformOf(config: LlamaConfig): WeightTransform {
  const ones = new Float32Array(config.hidden).fill(1);
  return {
    gains: (_layer, kind) => (kind === 'o' || kind === 'down' ? null : ones),
    rotations: makeRotations(config),
  };
}
