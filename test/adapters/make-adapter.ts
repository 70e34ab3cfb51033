/** Small adapters for tests, made in memory. */
import { expect } from 'vitest';
import {
  AdapterFormatError,
  type AdapterErrorCode,
  type Dtype,
  type Tensor,
  makeLoraModule,
  toFloat32,
  writeSafetensors,
  type LoraModule,
} from '../../adapters/index.ts';
import { convertTensor } from '../../adapters/format/lora-module.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';

export const BASE_ID = 'tiny-llama';
export const Q = 'model.layers.0.self_attn.q_proj';
export const V = 'model.layers.0.self_attn.v_proj';

export const base: BaseInfo = {
  id: BASE_ID,
  digest: 'a'.repeat(64),
  weights: 'f32',
  context: 64,
  max_rank_sum: 16,
  modules: [
    { name: Q, in: 4, out: 6 },
    { name: V, in: 4, out: 2 },
  ],
};

/** Values as a tensor of a floating type, in which they must be exact. */
export function tensor(shape: number[], values: readonly number[], dtype: Dtype = 'F32'): Tensor {
  const floats = Float32Array.from(values);
  if (dtype === 'F32') return { dtype, shape, data: new Uint8Array(floats.buffer) };
  const bits = new Uint32Array(floats.buffer);
  if (dtype === 'BF16')
    return { dtype, shape, data: new Uint8Array(Uint16Array.from(bits, (word) => word >>> 16).buffer) };
  if (dtype === 'F16') return convertTensor(tensor(shape, values), 'F16', { name: 'test' });
  if (dtype === 'F64') return { dtype, shape, data: new Uint8Array(Float64Array.from(values).buffer) };
  throw new Error(`no encoder for ${dtype}`);
}

/** Small distinct integers, never zero. */
export const ramp = (count: number, start = 1): number[] =>
  Array.from({ length: count }, (_, index) => ((start + index) % 7) + 1);

export const filled = (rows: number, columns: number, dtype: Dtype = 'F32', start = 1): Tensor =>
  tensor([rows, columns], ramp(rows * columns, start), dtype);

export const loraModule = (name = Q, rank = 2, inputs = 4, outputs = 6, alpha = 4): LoraModule =>
  makeLoraModule({ name, rank, alpha, a: filled(rank, inputs), b: filled(outputs, rank, 'F32', 3) });

export const peftTensors = (rank = 2, dtype: Dtype = 'F32'): Map<string, Tensor> =>
  new Map([
    [`base_model.model.${Q}.lora_A.weight`, filled(rank, 4, dtype)],
    [`base_model.model.${Q}.lora_B.weight`, filled(6, rank, dtype, 2)],
    [`base_model.model.${V}.lora_A.weight`, filled(rank, 4, dtype, 3)],
    [`base_model.model.${V}.lora_B.weight`, filled(2, rank, dtype, 4)],
  ]);

export const peftConfig = (overrides: Record<string, unknown> = {}): string =>
  JSON.stringify({
    peft_type: 'LORA',
    base_model_name_or_path: 'someone/Tiny-Llama',
    r: 2,
    lora_alpha: 4,
    bias: 'none',
    ...overrides,
  });

export const peftFiles = (
  overrides: Record<string, unknown> = {},
  tensors: ReadonlyMap<string, Tensor> = peftTensors(),
) => ({ configJson: peftConfig(overrides), weights: writeSafetensors({ tensors }) });

/** `[rows, columns]` with its rows made columns, float32. */
export function transposed(from: Tensor): Tensor {
  const [rows, columns] = from.shape as [number, number];
  const values = toFloat32(from);
  const turned = Array.from(
    { length: rows * columns },
    (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!,
  );
  return tensor([columns, rows], turned, from.dtype);
}

export const mlxTensors = (rank = 2, dtype: Dtype = 'F32'): Map<string, Tensor> =>
  new Map(
    [...peftTensors(rank, dtype)].map(([name, t]) => [
      name
        .replace('base_model.model.', '')
        .replace('.lora_A.weight', '.lora_a')
        .replace('.lora_B.weight', '.lora_b'),
      transposed(t),
    ]),
  );

/** As mlx-lm writes it, with the scale that {@link peftConfig} has. */
export const mlxConfig = (
  overrides: Record<string, unknown> = {},
  parameters: Record<string, unknown> = {},
): string =>
  JSON.stringify({
    fine_tune_type: 'lora',
    learning_rate: 1e-5,
    lora_parameters: { rank: 2, scale: 2, dropout: 0, keys: ['self_attn.q_proj'], ...parameters },
    lr_schedule: null,
    model: 'someone/Tiny-Llama',
    num_layers: 16,
    ...overrides,
  });

export const mlxFiles = (
  overrides: Record<string, unknown> = {},
  tensors: ReadonlyMap<string, Tensor> = mlxTensors(),
) => ({ configJson: mlxConfig(overrides), weights: writeSafetensors({ tensors }) });

/** The same adapter again, in kohya's names with underscores and the alpha of {@link peftConfig}. */
export const kohyaTensors = (rank = 2, dtype: Dtype = 'F32'): Map<string, Tensor> =>
  new Map(
    [...peftTensors(rank, dtype)].flatMap(([name, t]): [string, Tensor][] => {
      const stem = `lora_${name
        .replace('base_model.model.', '')
        .replace(/\.lora_[AB]\.weight$/, '')
        .replaceAll('.', '_')}`;
      return name.includes('lora_A')
        ? [
            [`${stem}.lora_down.weight`, t],
            [`${stem}.alpha`, tensor([], [4])],
          ]
        : [[`${stem}.lora_up.weight`, t]];
    }),
  );

export const kohyaFiles = (tensors: ReadonlyMap<string, Tensor> = kohyaTensors()) => ({
  configJson: null,
  weights: writeSafetensors({ tensors }),
});

/** A safetensors file from a header's text and data, whatever they say. */
export function rawFile(
  header: string | Uint8Array,
  data: Uint8Array | number = 0,
  length?: number,
): Uint8Array {
  const json = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const body = typeof data === 'number' ? new Uint8Array(data) : data;
  const file = new Uint8Array(8 + json.length + body.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(length ?? json.length), true);
  file.set(json, 8);
  file.set(body, 8 + json.length);
  return file;
}

/** Runs `action`, which must refuse with `code`. @returns the error. */
export function refusal(code: AdapterErrorCode, action: () => unknown): AdapterFormatError {
  let caught: unknown;
  try {
    action();
  } catch (error) {
    caught = error;
  }
  expect(caught).toBeInstanceOf(AdapterFormatError);
  expect((caught as AdapterFormatError).code).toBe(code);
  return caught as AdapterFormatError;
}

export async function refusalOf(
  code: AdapterErrorCode,
  promise: Promise<unknown>,
): Promise<AdapterFormatError> {
  const caught: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  return refusal(code, () => {
    if (caught !== undefined) throw caught;
  });
}
