/** Which of the files that a person gave are the adapter. */
import { err, ok, type Result } from '../../protocol/result.ts';

/** As PEFT and mlx-lm call the weights. */
const WEIGHTS = ['adapter_model.safetensors', 'adapters.safetensors'];
const CONFIG = 'adapter_config.json';
const READ = /\.(?:safetensors|gguf)$/i;
/** Older PEFT and mlx-lm wrote these; the toolkit says what to do with them. */
const OLD = /\.(?:bin|npz)$/i;

/** @returns the weights, and the configuration where there is one; or why they cannot be told. */
export function pickAdapterFiles<F extends { readonly name: string }>(
  files: readonly F[],
): Result<{ weights: F; config: F | null }, string> {
  const named = files.filter(({ name }) => WEIGHTS.includes(name));
  const readable = files.filter(({ name }) => READ.test(name));
  const found =
    named.length > 0 ? named : readable.length > 0 ? readable : files.filter(({ name }) => OLD.test(name));
  const configs = files.filter(({ name }) => name === CONFIG);
  const [weights] = found;
  if (weights === undefined)
    return err(
      'There is no adapter among these. Give the folder that PEFT or mlx-lm wrote, or one .safetensors or .gguf file.',
    );
  if (found.length > 1 || configs.length > 1)
    return err(
      `There is more than one adapter among these: ${(found.length > 1 ? found : configs).map(({ name }) => name).join(', ')}. Give one of them.`,
    );
  return ok({ weights, config: configs[0] ?? null });
}
