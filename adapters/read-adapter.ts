import { type AdapterErrorCode, AdapterFormatError, printable } from './errors.ts';
import { CONFIG_KEY, parseCanonical } from './format/canonical.ts';
import { readGgufAdapter, type AttentionShape } from './format/gguf-adapter.ts';
import { readKohyaAdapter, refusedKohyaName } from './format/kohya-adapter.ts';
import type { AdapterContent } from './format/invocation.ts';
import type { LoraModule } from './format/lora-module.ts';
import { readMlxAdapter } from './format/mlx-adapter.ts';
import { readPeftAdapter } from './format/peft-adapter.ts';
import { parsePeftConfig } from './format/peft-config.ts';
import { MAX_ADAPTER_TENSORS, parseSafetensors, type SafetensorsFile } from './format/safetensors.ts';
import { type JsonObject, parseStrictJson, StrictJsonError } from './format/strict-json.ts';

export type AdapterFormat = 'canonical' | 'peft' | 'mlx' | 'kohya' | 'gguf';

/** An adapter's files, in memory. */
export interface AdapterFiles {
  /** The weights file: safetensors or GGUF. */
  readonly weights: Uint8Array;
  /** `adapter_config.json` as text; null when there is none: canonical, GGUF and kohya files need none. */
  readonly configJson: string | null;
  /** transformers' `config.json` beside it, for the labels of a classification head; null or absent = there is none. */
  readonly modelConfigJson?: string | null;
  /** Names of the files in messages. */
  readonly weightsPath?: string;
  readonly configPath?: string;
}

export interface ReadAdapter extends AdapterContent {
  readonly format: AdapterFormat;
  /** As the files say it: a hub id, a local path, or null. */
  readonly baseModel: string | null;
  /** Chain id that a canonical file names; null otherwise. */
  readonly parent: string | null;
  /** Sorted by name; scale is always alpha / rank. */
  readonly modules: readonly LoraModule[];
  /** Accepted, but possibly mistakes; each a sentence. */
  readonly warnings: readonly string[];
}

const WEIGHTS_PATH = 'adapter_model.safetensors';
export const CONFIG_PATH = 'adapter_config.json';
const MODEL_CONFIG_PATH = 'config.json';

const startsWith = (bytes: Uint8Array, ...prefix: number[]): boolean =>
  prefix.every((byte, index) => bytes[index] === byte);

/** Files that people upload by mistake get a better error than a bad header length. */
function refuseArchives(bytes: Uint8Array, path: string): void {
  const zip = startsWith(bytes, 0x50, 0x4b, 0x03, 0x04);
  // APPNOTE 4.3.7: the first file's name stands at byte 30, its length at byte 26.
  const firstFile = zip ? String.fromCharCode(...bytes.subarray(30, 30 + Math.min(bytes[26] ?? 0, 200))) : '';
  if (firstFile.endsWith('.npy'))
    throw new AdapterFormatError({
      code: 'format_unknown',
      message:
        'This is an npz archive, which mlx-lm wrote until April 2024. Convert it with MLX: ' +
        'mx.save_safetensors("adapters.safetensors", mx.load("adapters.npz")).',
      path,
    });
  // A zip archive is torch.save's since 1.6; before, it wrote a bare pickle, of protocol 2 to 5.
  if (zip || (bytes[0] === 0x80 && bytes[1]! >= 2 && bytes[1]! <= 5 && bytes[8] !== 0x7b))
    throw new AdapterFormatError({
      code: 'pickle_refused',
      message:
        'This is a pickle, which can run code when it is read. Convert it where it was trained: ' +
        'save_pretrained(…, safe_serialization=True).',
      path,
    });
}

/** Part names of transformers' safetensors files, and of llama.cpp's gguf-split. */
const PART = /-\d{5}-of-(\d{5})\.(safetensors|gguf)$/i;

/** @returns why a file cannot be read, if its name marks it as one of several parts: its content does not. */
export function partRefusal(path: string): AdapterFormatError | null {
  const [, count, kind] = PART.exec(path) ?? [];
  if (count === undefined || Number(count) < 2) return null;
  const remedy =
    kind?.toLowerCase() === 'gguf'
      ? 'Join them: llama-gguf-split --merge <first part> adapter.gguf.'
      : 'Save it with save_pretrained as one file, or join them in their folder: python -c "from glob import glob; ' +
        'from safetensors.torch import load_file, save_file; save_file({k: v for f in ' +
        "glob('*-of-*.safetensors') for k, v in load_file(f).items()}, 'adapter_model.safetensors')\".";
  return new AdapterFormatError({
    code: 'file_in_parts',
    message: `This is one of ${Number(count)} parts of an adapter, which cannot be used alone. ${remedy}`,
    path,
  });
}

type TensorStyle = 'peft' | 'mlx' | 'kohya';

const STYLE_OF: Readonly<Record<TensorStyle, string>> = {
  peft: 'PEFT (lora_A, lora_B)',
  mlx: 'mlx-lm (lora_a, lora_b)',
  kohya: 'kohya (lora_down, lora_up)',
};

/**
 * @returns the naming style of the tensors; null when none is a LoRA's. The reader of that style refuses all
 * others.
 */
function tensorStyle(names: Iterable<string>): TensorStyle | null {
  let style: TensorStyle | null = null;
  for (const name of names) {
    if (name.endsWith('.lora_down.weight') || name.endsWith('.lora_up.weight')) return 'kohya';
    if (name.endsWith('.lora_a') || name.endsWith('.lora_b')) return 'mlx';
    if (name.includes('.lora_A.') || name.includes('.lora_B.')) return 'peft';
    if (refusedKohyaName(name) !== null) style = 'kohya';
  }
  return style;
}

function readPlainSafetensors(
  file: SafetensorsFile,
  { configJson, modelConfigJson = null }: Pick<AdapterFiles, 'configJson' | 'modelConfigJson'>,
  paths: { weightsPath: string; configPath: string },
): ReadAdapter {
  const config = configJson === null ? null : readConfigObject(configJson, { path: paths.configPath });
  const configured = config === null ? null : configKind(config);
  const style = tensorStyle(file.tensors.keys());
  // Another method of PEFT (LoHa, LoKr …) shares names with LyCORIS; its configuration identifies it best.
  if (configured === 'peft' && config !== null && config.get('peft_type') !== 'LORA')
    parsePeftConfig(config, { path: paths.configPath });
  if (style !== null && configured !== null && style !== configured)
    throw new AdapterFormatError({
      code: 'config_mismatch',
      message:
        `The configuration is ${configured === 'peft' ? "PEFT's" : "mlx-lm's"}, but the tensors are ` +
        `named like ${STYLE_OF[style]}. Use files that were saved together.`,
      path: paths.configPath,
    });
  const format = style ?? configured ?? 'peft';
  if (format === 'kohya')
    return { format, parent: null, ...readKohyaAdapter({ file, weightsPath: paths.weightsPath }) };
  if (format === 'peft') {
    const modelConfig =
      modelConfigJson === null ? null : readConfigObject(modelConfigJson, { path: MODEL_CONFIG_PATH });
    return { format, parent: null, ...readPeftAdapter({ file, config, modelConfig, ...paths }) };
  }
  if (config === null)
    throw new AdapterFormatError({
      code: 'config_missing',
      message:
        "The tensors are mlx-lm's, whose scale is in adapter_config.json, but there is none. Give the " +
        'folder that mlx_lm.lora wrote.',
      path: paths.configPath,
    });
  return { format, parent: null, ...readMlxAdapter({ file, config, ...paths }) };
}

/**
 * Reads an adapter of any format, detected by its content. File names matter only for parts.
 * @param options.attention the base's heads, which a GGUF file of a Llama needs; null or absent = unknown.
 * @throws AdapterFormatError for anything but a plain delta of linear layers.
 */
export function readAdapter(
  files: AdapterFiles,
  options: { attention?: AttentionShape | null } = {},
): ReadAdapter {
  const { weights, weightsPath = WEIGHTS_PATH, configPath = CONFIG_PATH } = files;
  const part = partRefusal(weightsPath);
  if (part !== null) throw part;
  if (startsWith(weights, 0x47, 0x47, 0x55, 0x46)) {
    const read = readGgufAdapter(weights, { path: weightsPath, attention: options.attention ?? null });
    return { format: 'gguf', parent: null, ...read };
  }
  refuseArchives(weights, weightsPath);
  const file = parseSafetensors(weights, { path: weightsPath, maxTensors: MAX_ADAPTER_TENSORS });
  // A canonical file has its own configuration; one beside it belongs to something else.
  if (file.metadata.has(CONFIG_KEY)) {
    const { config, modules, classifier } = parseCanonical(weights, { path: weightsPath });
    const { base: baseModel, parent, invocation } = config;
    return { format: 'canonical', baseModel, parent, modules, invocation, classifier, warnings: [] };
  }
  return readPlainSafetensors(file, files, { weightsPath, configPath });
}

/** Of `adapter_config.json`. Real ones have one or two kilobytes, or some hundred with a pattern per module. */
export const MAX_CONFIG_CHARACTERS = 4 * 1024 * 1024;
const MAX_CONFIG_VALUES = 100_000;

/** Keys that only mlx-lm writes: its command line, or `lora_layers` before September 2024. */
const MLX_KEYS = ['lora_parameters', 'fine_tune_type', 'lora_layers'];

/**
 * `adapter_config.json` from its text, whichever tool wrote it.
 * @throws AdapterFormatError `config_invalid` or `duplicate_key`.
 */
export function readConfigObject(json: string, options: { path?: string | undefined } = {}): JsonObject {
  const refuse = (code: AdapterErrorCode, message: string, subject?: string): never => {
    throw new AdapterFormatError({ code, message, path: options.path, subject });
  };
  if (json.length > MAX_CONFIG_CHARACTERS)
    return refuse(
      'config_invalid',
      `The configuration has more than ${MAX_CONFIG_CHARACTERS} characters. Check that it is an adapter_config.json.`,
    );
  try {
    const value = parseStrictJson(json, { maxValues: MAX_CONFIG_VALUES });
    return value instanceof Map
      ? value
      : refuse(
          'config_invalid',
          'The configuration must be a JSON object. Check that it is an adapter_config.json.',
        );
  } catch (error) {
    if (!(error instanceof StrictJsonError)) throw error;
    if (error.kind === 'duplicate_key')
      return refuse(
        'duplicate_key',
        `"${printable(error.key ?? '')}" occurs twice in the configuration. Remove the wrong one.`,
        error.key,
      );
    return refuse('config_invalid', `The configuration is ${error.message}. Correct it.`);
  }
}

/** @returns the tool that writes such configurations; null when unknown. */
function configKind(config: JsonObject): 'peft' | 'mlx' | null {
  if (config.has('peft_type')) return 'peft';
  return MLX_KEYS.some((key) => config.has(key)) ? 'mlx' : null;
}
