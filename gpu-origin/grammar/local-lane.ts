import { CoreFailed, GrammarCore } from './grammar-core.ts';
import { type Lane, LaneLost, type StartLane, wordsOf } from './ports.ts';

/** A lane in this thread: for tests, and hosts without threads. Nothing ends a grammar that takes long to compile. */
export const startLocalLane: StartLane = async ({ tokens, rows }) => {
  const core = await GrammarCore.create(tokens.bytes, tokens.eosIds);
  const words = wordsOf(tokens.bytes.length);
  const masks = new Int32Array(rows * words);
  const lane: Lane = {
    masks,
    words,
    async compile(grammar, ebnf) {
      try {
        await core.compile(grammar, ebnf);
        return null;
      } catch (error) {
        if (error instanceof CoreFailed) return error.message;
        throw error;
      }
    },
    forget: (grammar) => core.forget(grammar),
    open: (row, grammar) => core.open(row, grammar),
    close: (row) => core.close(row),
    async step(steps) {
      try {
        return await core.step(steps, masks);
      } catch (error) {
        if (error instanceof CoreFailed) throw new LaneLost(error.message, false);
        throw error;
      }
    },
    stop: async () => undefined,
  };
  return lane;
};
