/** The files that a person gave, dropped or chosen, and which of them are the adapter. */
import { partRefusal } from '../../adapters/read-adapter.ts';
import { err, ok, type Result } from '../../protocol/api-error.ts';

/** Files of a drop: those that were dropped, and those in a folder that was. */

/** A folder of a training run has its checkpoints below it; the adapter itself is at the top or one below. */
const MAX_DEPTH = 2;

/** @returns files, in no order; what cannot be read is left out. */
export async function droppedFiles({ items, files }: DataTransfer): Promise<File[]> {
  // Entries are there until the event has been handled: all are taken before the first wait.
  const entries = [...items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  if (entries.length === 0) return [...files];
  return (await Promise.all(entries.map((entry) => filesIn(entry, MAX_DEPTH)))).flat();
}

async function filesIn(entry: FileSystemEntry, depth: number): Promise<File[]> {
  if (entry.isFile)
    return new Promise((resolve) =>
      (entry as FileSystemFileEntry).file(
        (file) => resolve([file]),
        () => resolve([]),
      ),
    );
  if (depth === 0) return [];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  // It tells some at a time, and none at the end.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve) =>
      reader.readEntries(resolve, () => resolve([])),
    );
    if (some.length === 0) break;
    found.push(...some);
  }
  return (await Promise.all(found.map((one) => filesIn(one, depth - 1)))).flat();
}

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
  // Read, to be refused with what to do about it.
  const part = found.find(({ name }) => partRefusal(name) !== null);
  if (part !== undefined) return ok({ weights: part, config: configs[0] ?? null });
  if (found.length > 1 || configs.length > 1)
    return err(
      `There is more than one adapter among these: ${(found.length > 1 ? found : configs).map(({ name }) => name).join(', ')}. Give one of them.`,
    );
  return ok({ weights, config: configs[0] ?? null });
}
