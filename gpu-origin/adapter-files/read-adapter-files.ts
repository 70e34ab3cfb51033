import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { AdapterFiles } from '../../adapters/index.ts';

const CONFIG = 'adapter_config.json';
/** As PEFT and mlx-lm call the weights of a folder with a configuration. */
const WEIGHTS = ['adapter_model.safetensors', 'adapters.safetensors'] as const;

/** A folder holds no adapter, or more than one. */
export class AdapterFilesError extends Error {
  override readonly name = 'AdapterFilesError';
}

/**
 * Reads an adapter's files: those of a PEFT or mlx-lm folder, or a folder's only `.safetensors` or `.gguf` file, or the
 * file itself.
 * @param path folder or file.
 * @throws AdapterFilesError; what node:fs throws.
 */
export async function readAdapterFiles(path: string): Promise<AdapterFiles> {
  const read = async (file: string): Promise<Uint8Array> => new Uint8Array(await readFile(file));
  if (!(await stat(path)).isDirectory())
    return { weights: await read(path), configJson: null, weightsPath: path };
  const names = await readdir(path);
  const known = WEIGHTS.filter((name) => names.includes(name));
  const others = names.filter((name) => /\.(?:safetensors|gguf)$/.test(name));
  const found = known.length > 0 ? known : others;
  const [weights] = found;
  if (weights === undefined)
    throw new AdapterFilesError(
      'the folder holds no adapter: give one that PEFT or mlx-lm wrote, or a .safetensors or .gguf file',
    );
  if (found.length > 1)
    throw new AdapterFilesError(`the folder holds ${found.join(' and ')}: give the one that is meant`);
  const configPath = join(path, CONFIG);
  return {
    weights: await read(join(path, weights)),
    configJson: names.includes(CONFIG) ? await readFile(configPath, 'utf8') : null,
    weightsPath: join(path, weights),
    configPath,
  };
}
