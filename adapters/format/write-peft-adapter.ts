/** Writes a PEFT folder that every reader understands alike. */
import { AdapterFormatError } from '../errors.ts';
import { toFloat32, type Tensor } from './dtype.ts';
import { foldIntoB } from './fold-scale.ts';
import { inFeatures, outFeatures, type LoraModule } from './lora-module.ts';
import { writeSafetensors } from './write-safetensors.ts';

const PREFIX = 'base_model.model.';
/** `<stem>.<layer>.<rest>`; the first number is the layer's. */
const IN_LAYER = /^(.*?)\.(0|[1-9]\d*)\.(.+)$/;

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * Last segments of the modules' paths when layers 0 … n-1 all have the same modules, else the whole paths: PEFT would
 * put an empty pair where a last segment matches and the file has none, and other readers drop such a module everywhere.
 */
function targetModules(names: readonly string[]): string[] {
  const layers = new Map<string, Set<string>>();
  for (const name of names) {
    const match = IN_LAYER.exec(name);
    if (match === null) return [...names].sort(compare);
    const [, stem, layer, rest] = match as unknown as [string, string, string, string];
    const key = `${stem}.${layer}`;
    layers.set(key, (layers.get(key) ?? new Set()).add(rest));
  }
  const kinds = new Set([...layers.values()].flatMap((rests) => [...rests]));
  const stems = new Set([...layers.keys()].map((key) => key.slice(0, key.lastIndexOf('.'))));
  const uniform =
    stems.size === 1 &&
    [...stems].every((stem) => layers.has(`${stem}.0`) && layers.has(`${stem}.${layers.size - 1}`)) &&
    [...layers.values()].every((rests) => rests.size === kinds.size);
  if (!uniform) return [...names].sort(compare);
  return [...new Set([...kinds].map((rest) => rest.slice(rest.lastIndexOf('.') + 1)))].sort(compare);
}

/** `[rows, columns]` in the upper left corner of zeros `[toRows, toColumns]`. */
function padded(
  values: Float32Array<ArrayBuffer>,
  columns: number,
  [toRows, toColumns]: readonly [number, number],
): Tensor {
  const out = new Float32Array(toRows * toColumns);
  for (let row = 0; row * columns < values.length; row++)
    out.set(values.subarray(row * columns, (row + 1) * columns), row * toColumns);
  return { dtype: 'F32', shape: [toRows, toColumns], data: new Uint8Array(out.buffer) };
}

/**
 * One rank R for all modules, scale 1 (r = lora_alpha = R), no patterns, no rsLoRA: PEFT, vLLM, LoRAX and llama.cpp's
 * converter, of which some ignore patterns or rsLoRA, then read the same delta. Smaller ranks are padded with zeros,
 * which adds nothing. The scale goes into B, in float32: each entry of scale * B is rounded once, off by at most 2^-24
 * (6e-8) of itself, exact for powers of two; A is exact. Deterministic.
 * @param params.baseModel as PEFT writes it: a hub id or a path; null = unknown.
 * @returns the contents of `adapter_config.json` and `adapter_model.safetensors`.
 * @throws AdapterFormatError `empty_adapter`, or `non_finite` when scale * B leaves float32.
 */
export function writePeftAdapter(params: { modules: readonly LoraModule[]; baseModel: string | null }): {
  configJson: string;
  safetensors: Uint8Array<ArrayBuffer>;
} {
  const { modules, baseModel } = params;
  if (modules.length === 0)
    throw new AdapterFormatError({ code: 'empty_adapter', message: 'The adapter has no modules.' });
  const rank = Math.max(...modules.map((module) => module.rank));
  const tensors = new Map<string, Tensor>();
  for (const module of modules) {
    const [inputs, outputs] = [inFeatures(module), outFeatures(module)];
    const a = padded(toFloat32(module.a), inputs, [rank, inputs]);
    const b = padded(foldIntoB(module, module.scale), module.rank, [outputs, rank]);
    tensors.set(`${PREFIX}${module.name}.lora_A.weight`, a).set(`${PREFIX}${module.name}.lora_B.weight`, b);
  }
  const config = {
    alpha_pattern: {},
    base_model_name_or_path: baseModel,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: rank,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: 'LORA',
    r: rank,
    rank_pattern: {},
    target_modules: targetModules(modules.map(({ name }) => name)),
    task_type: 'CAUSAL_LM',
    use_dora: false,
    use_rslora: false,
  };
  return {
    configJson: `${JSON.stringify(config, null, 2)}\n`,
    safetensors: writeSafetensors({ metadata: new Map([['format', 'pt']]), tensors }),
  };
}
