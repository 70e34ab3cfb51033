import { inAlphabet } from './alphabet.ts';
import type { GrammarTokens } from './ports.ts';

const NOTHING = new Uint8Array(0);

/** What a grammar needs to know of a tokenizer: tokens that are not shown are in no grammar. */
export function grammarTokens(
  tokenizer: {
    tokenBytes(id: number): Uint8Array | null;
    isSpecial(id: number): boolean;
    readonly eosIds: readonly number[];
  },
  vocabSize: number,
): GrammarTokens {
  const bytes = Array.from({ length: vocabSize }, (_, id) =>
    tokenizer.isSpecial(id) ? NOTHING : inAlphabet(tokenizer.tokenBytes(id) ?? NOTHING),
  );
  return { bytes, eosIds: tokenizer.eosIds };
}
