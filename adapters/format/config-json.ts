/** `adapter_config.json` as text, whichever tool wrote it. */
import { AdapterFormatError, printable, type AdapterErrorCode } from '../errors.ts';
import { parseStrictJson, StrictJsonError, type JsonObject } from './strict-json.ts';

/** Real ones have one or two kilobytes, or some hundred with a pattern per module. */
export const MAX_CONFIG_CHARACTERS = 4 * 1024 * 1024;
const MAX_CONFIG_VALUES = 100_000;

/** Keys that only mlx-lm writes: its command line, or `lora_layers` before September 2024. */
const MLX_KEYS = ['lora_parameters', 'fine_tune_type', 'lora_layers'];

/** @throws AdapterFormatError `config_invalid` or `duplicate_key`. */
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
        `"${printable(error.key ?? '')}" occurs twice in the configuration. Remove the one that is wrong.`,
        error.key,
      );
    return refuse('config_invalid', `The configuration is ${error.message}. Correct it.`);
  }
}

/** @returns the tool that writes configurations with such keys; null when none is known to. */
export function configKind(config: JsonObject): 'peft' | 'mlx' | null {
  if (config.has('peft_type')) return 'peft';
  return MLX_KEYS.some((key) => config.has(key)) ? 'mlx' : null;
}
