import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { seededRandom } from '../seeded-random.ts';

/** Sizes of a Llama-family base, as far as a LoRA needs them. */
export interface BaseShape {
  layers: number;
  hidden: number;
  /** Columns of the query projection: heads times the head's size. */
  query: number;
  /** Columns of the key and value projections: heads that hold keys times the head's size. */
  keyValue: number;
  feedForward: number;
}

/** SmolLM2-135M (config.json: hidden_size 576, 3 of 9 heads hold keys, head 64, intermediate_size 1536). */
export const SMOLLM2_135M: BaseShape = {
  layers: 30,
  hidden: 576,
  query: 576,
  keyValue: 192,
  feedForward: 1536,
};

export type ModuleName = 'q_proj' | 'k_proj' | 'v_proj' | 'o_proj' | 'gate_proj' | 'up_proj' | 'down_proj';
export const QV: readonly ModuleName[] = ['q_proj', 'v_proj'];
export const ALL_LINEARS: readonly ModuleName[] = [
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
];

function moduleShape(base: BaseShape, name: ModuleName): { parent: string; in: number; out: number } {
  const { hidden, query, keyValue, feedForward } = base;
  const attention = (out: number) => ({ parent: 'self_attn', in: hidden, out });
  switch (name) {
    case 'q_proj':
      return attention(query);
    case 'o_proj':
      return { parent: 'self_attn', in: query, out: hidden };
    case 'k_proj':
    case 'v_proj':
      return attention(keyValue);
    case 'gate_proj':
    case 'up_proj':
      return { parent: 'mlp', in: hidden, out: feedForward };
    case 'down_proj':
      return { parent: 'mlp', in: feedForward, out: hidden };
  }
}

/** Normal numbers by Box and Muller's transform, `deviation` wide. */
function normals(next: () => number, count: number, deviation: number): Float32Array {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = deviation * Math.sqrt(-2 * Math.log(1 - next()));
    const angle = 2 * Math.PI * next();
    values[i] = radius * Math.cos(angle);
    if (i + 1 < count) values[i + 1] = radius * Math.sin(angle);
  }
  return values;
}

/** B's deviation: large enough to change what is generated, small enough that text stays text. */
const B_DEVIATION = 0.02;

/**
 * A PEFT folder with random float32 values: A normal with deviation 1/sqrt(in), B normal with deviation 0.02,
 * alpha = 2 x rank. The same seed writes the same bytes.
 */
export async function writeRandomAdapter(params: {
  folder: string;
  seed: number;
  rank: number;
  modules: readonly ModuleName[];
  shape?: BaseShape;
  baseName?: string;
}): Promise<void> {
  const { folder, seed, rank, modules, shape = SMOLLM2_135M } = params;
  const next = seededRandom(seed * 2 + 1);
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  const chunks: Uint8Array[] = [];
  let offset = 0;
  const add = (name: string, dimensions: [number, number], values: Float32Array) => {
    header[name] = { dtype: 'F32', shape: dimensions, data_offsets: [offset, offset + values.byteLength] };
    offset += values.byteLength;
    chunks.push(new Uint8Array(values.buffer));
  };
  for (let layer = 0; layer < shape.layers; layer++) {
    for (const module of modules) {
      const { parent, in: columns, out: rows } = moduleShape(shape, module);
      const name = `base_model.model.model.layers.${layer}.${parent}.${module}`;
      add(`${name}.lora_A.weight`, [rank, columns], normals(next, rank * columns, 1 / Math.sqrt(columns)));
      add(`${name}.lora_B.weight`, [rows, rank], normals(next, rows * rank, B_DEVIATION));
    }
  }
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, 'adapter_model.safetensors'), safetensors(header, chunks));
  await writeFile(path.join(folder, 'adapter_config.json'), JSON.stringify(peftConfig(params), null, 2));
}

/** Header length (8 bytes, little-endian), header padded with spaces to 8 bytes, data. */
function safetensors(header: Record<string, unknown>, chunks: readonly Uint8Array[]): Buffer {
  const json = JSON.stringify(header);
  const text = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...chunks]);
}

const peftConfig = (params: { rank: number; modules: readonly ModuleName[]; baseName?: string }) => ({
  peft_type: 'LORA',
  task_type: 'CAUSAL_LM',
  base_model_name_or_path: params.baseName ?? 'HuggingFaceTB/SmolLM2-135M-Instruct',
  r: params.rank,
  lora_alpha: 2 * params.rank,
  lora_dropout: 0,
  target_modules: params.modules,
  bias: 'none',
  fan_in_fan_out: false,
  use_rslora: false,
  rank_pattern: {},
  alpha_pattern: {},
  modules_to_save: null,
  inference_mode: true,
});
