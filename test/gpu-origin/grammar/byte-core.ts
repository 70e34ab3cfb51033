/** A vocabulary of one token a byte, and what a grammar makes of texts. */
import { inAlphabet } from '../../../gpu-origin/grammar/ebnf.ts';
import { grammarOf } from '../../../gpu-origin/grammar/constraint-grammar.ts';
import { GrammarCore } from '../../../gpu-origin/grammar/grammar-core.ts';
import type { ApiError } from '../../../protocol/api-error.ts';
import type { Constraint } from '../../../protocol/request-fields.ts';

export const END = 256;
const WORDS = 9;

export const BYTE_TOKENS = {
  vocabSize: 257,
  bytes: () => [
    ...Array.from({ length: 256 }, (_, byte) => inAlphabet(Uint8Array.of(byte))),
    new Uint8Array(0),
  ],
  eosIds: [END],
};

export const createByteCore = (): Promise<GrammarCore> =>
  GrammarCore.create(BYTE_TOKENS.bytes(), BYTE_TOKENS.eosIds);

export const ofSchema = (schema: unknown): Constraint => ({ kind: 'json_schema', schema });

/** The error of a constraint that no grammar is made of. */
export function refusalOf(constraint: Constraint): ApiError | null {
  const made = grammarOf({ constraint, path: ['place'] });
  return made.ok ? null : made.error;
}

export interface Walker {
  /** Bytes that may come, and {@link END}; null: it cannot go on. */
  next(accepted: readonly number[]): Promise<number[] | null>;
  accepts(text: string): Promise<boolean>;
}

let ids = 0;

/** @throws Error when the constraint is refused. */
export async function walkerOf(core: GrammarCore, constraint: Constraint): Promise<Walker> {
  const made = grammarOf({ constraint, path: ['place'] });
  if (!made.ok) throw new Error(made.error.message);
  const grammar = (ids += 1);
  await core.compile(grammar, made.value);
  const masks = new Int32Array(WORDS);
  const open = (): ((accepted: readonly number[]) => Promise<number[] | null>) => {
    const row = (ids += 1);
    core.open(row, grammar);
    return async (accepted) => {
      const [failure] = await core.step([{ row, accepted }], masks);
      if (failure !== null) return null;
      return Array.from({ length: 257 }, (_, id) => id).filter((id) => (masks[id >> 5]! >>> (id & 31)) & 1);
    };
  };
  return {
    next: open(),
    async accepts(text) {
      const next = open();
      let accepted: number[] = [];
      for (const byte of [...new TextEncoder().encode(text), END]) {
        const allowed = await next(accepted);
        if (allowed?.includes(byte) !== true) return false;
        accepted = [byte];
      }
      return true;
    },
  };
}
