import { AdapterFormatError } from '../errors.ts';
import { convertTensor } from './convert-dtype.ts';
import type { Tensor } from './dtype.ts';
import { makeLoraModule, type LoraModule } from './lora-module.ts';
import { parsePeftConfig } from './peft-config.ts';
import { readPeftPairs } from './peft-tensors.ts';
import type { SafetensorsFile } from './safetensors.ts';
import type { JsonObject } from './strict-json.ts';

/**
 * Reads a PEFT LoRA. Its scale is alpha / r, or alpha / sqrt(r) under rsLoRA (peft `tuners/lora/layer.py`), with r and
 * alpha from the first pattern that matches the module; the tensors' own rank must agree. float64 becomes float32.
 * @param params.config null when there is none, which is refused, but after what the tensors alone give away.
 * @throws AdapterFormatError for everything that is not a plain delta of linear layers.
 */
export function readPeftAdapter(params: {
  file: SafetensorsFile;
  config: JsonObject | null;
  weightsPath: string;
  configPath: string;
}): { baseModel: string | null; modules: LoraModule[]; warnings: string[] } {
  const config = params.config && parsePeftConfig(params.config, { path: params.configPath });
  const path = params.weightsPath;
  const pairs = readPeftPairs(params.file, { path });
  if (config === null)
    throw new AdapterFormatError({
      code: 'config_missing',
      message:
        "The tensors are PEFT's, whose scale stands in adapter_config.json, and there is none. " +
        'Give the folder that save_pretrained wrote.',
      path: params.configPath,
    });
  const modules = pairs.map(({ name, trainedAs, a, b }) => {
    const narrow = (tensor: Tensor): Tensor =>
      tensor.dtype === 'F64' ? convertTensor(tensor, 'F32', { name, path }) : tensor;
    const rank = config.rankOf(trainedAs);
    const alpha = config.alphaOf(trainedAs) * (config.useRslora ? Math.sqrt(rank) : 1);
    return makeLoraModule({ name, rank, alpha, a: narrow(a), b: narrow(b), path });
  });
  return { baseModel: config.baseModel, modules, warnings: [] };
}
