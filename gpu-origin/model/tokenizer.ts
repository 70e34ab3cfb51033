/** A tokenizer from where a base keeps it. */
import { ggufTokenizer } from './gguf-tokenizer.ts';
import { createTokenizer, type Tokenizer } from './create-tokenizer.ts';
import type { TokenizerDefinition } from './tokenizer-definition.ts';
import { folderTokenizer } from './tokenizer-folder.ts';

export { createTokenizer, type Tokenizer } from './create-tokenizer.ts';
export { TokenizerError } from './tokenizer-definition.ts';
export type { Steps } from './tokenizer-steps.ts';

export type TokenizerSource =
  | { kind: 'gguf'; metadata: Map<string, unknown> }
  /** A folder with `tokenizer.json`. */
  | { kind: 'folder'; path: string };

/** @throws TokenizerError when it is missing, damaged or of a kind that is not supported. */
export const readTokenizer = (source: TokenizerSource): TokenizerDefinition =>
  source.kind === 'gguf' ? ggufTokenizer(source.metadata) : folderTokenizer(source.path);

/** @throws TokenizerError when the tokenizer is missing, damaged or of a kind that is not supported. */
export function loadTokenizer(source: TokenizerSource): Tokenizer {
  return createTokenizer(readTokenizer(source));
}
