import { AdapterFormatError } from './errors.ts';
import { makeLoraModule, type LoraModule } from './format/lora-module.ts';
import { parsePeftConfig } from './format/peft-config.ts';
import { readPeftPairs } from './format/peft-tensors.ts';
import { MAX_ADAPTER_TENSORS, parseSafetensors } from './format/safetensors.ts';

/** A PEFT folder's two files, in memory. */
export interface PeftFiles {
  /** `adapter_config.json` */
  readonly configJson: string;
  /** `adapter_model.safetensors` */
  readonly safetensors: Uint8Array;
}

export interface ConvertedAdapter {
  /** `base_model_name_or_path`, as the file says it. */
  readonly baseModel: string | null;
  /** Sorted by name; alpha normalised so that the scale is alpha / rank also under rsLoRA. */
  readonly modules: readonly LoraModule[];
}

const CONFIG_PATH = 'adapter_config.json';
const WEIGHTS_PATH = 'adapter_model.safetensors';

const startsWith = (bytes: Uint8Array, ...prefix: number[]): boolean =>
  prefix.every((byte, index) => bytes[index] === byte);

/** Files that people hand in by mistake deserve a better answer than a bad header length. */
function refuseOtherFormats(bytes: Uint8Array): void {
  // A zip archive (torch.save since 1.6) or a bare pickle, protocol 2 to 5.
  const pickle =
    startsWith(bytes, 0x50, 0x4b, 0x03, 0x04) ||
    (bytes[0] === 0x80 && bytes[1]! >= 2 && bytes[1]! <= 5 && bytes[8] !== 0x7b);
  if (pickle)
    throw new AdapterFormatError({
      code: 'pickle_refused',
      message:
        'This is a pickle, which can run code when it is read. Convert it where it was trained: ' +
        'save_pretrained(…, safe_serialization=True).',
      path: WEIGHTS_PATH,
    });
  if (startsWith(bytes, 0x47, 0x47, 0x55, 0x46))
    throw new AdapterFormatError({
      code: 'format_unknown',
      message:
        'This is a GGUF file, which cannot be read as an adapter yet. Pack the PEFT folder that it was made from.',
      path: WEIGHTS_PATH,
    });
}

/**
 * Reads a PEFT LoRA. Its scale is alpha / r, or alpha / sqrt(r) under rsLoRA (peft `tuners/lora/layer.py`), with r and
 * alpha from the first pattern that matches the module; the tensors' own rank must agree.
 * @throws AdapterFormatError for everything that is not a plain delta of linear layers.
 */
export function convertPeftAdapter(files: PeftFiles): ConvertedAdapter {
  const config = parsePeftConfig(files.configJson, { path: CONFIG_PATH });
  refuseOtherFormats(files.safetensors);
  const pairs = readPeftPairs(
    parseSafetensors(files.safetensors, { path: WEIGHTS_PATH, maxTensors: MAX_ADAPTER_TENSORS }),
    {
      path: WEIGHTS_PATH,
    },
  );
  const modules = pairs.map(({ name, a, b }) => {
    const rank = config.rankOf(name);
    const alpha = config.alphaOf(name) * (config.useRslora ? Math.sqrt(rank) : 1);
    return makeLoraModule({ name, rank, alpha, a, b, path: WEIGHTS_PATH });
  });
  return { baseModel: config.baseModel, modules };
}
