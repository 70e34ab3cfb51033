import { statSync } from 'node:fs';
import { type BaseModel, BaseModelError } from './base-model.ts';
import { loadFolderBase } from './load-folder-base.ts';
import { loadGgufBase } from './load-gguf-base.ts';
import type { TokenizerSource } from './load-tokenizer.ts';

/** @param path a .gguf file or a Hugging Face folder. @throws BaseModelError | GgufError */
export async function loadBase(
  path: string,
  id: string | undefined,
): Promise<{ base: BaseModel; tokenizerSource: TokenizerSource }> {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) throw new BaseModelError(`there is no file or folder ${path}`);
  if (stats.isDirectory())
    return { base: await loadFolderBase({ path, id }), tokenizerSource: { kind: 'folder', path } };
  const { base, file } = await loadGgufBase({ path, id });
  return { base, tokenizerSource: { kind: 'gguf', metadata: file.metadata } };
}
