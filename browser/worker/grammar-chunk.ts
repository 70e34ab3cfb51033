/**
 * Constrains answers as origins do: schemas and tools to grammars, and their compiler, which is as large as all
 * the rest. A separate file in the runtime's folder, loaded on demand.
 */
import { GrammarService } from '../../gpu-origin/grammar/grammar-service.ts';
import { grammarTokens } from '../../gpu-origin/grammar/ebnf.ts';
import { startLocalWorker } from '../../gpu-origin/grammar/grammar-core.ts';
import type { Grammars } from '../../gpu-origin/grammar/ports.ts';

export { prepareGrammar } from '../../gpu-origin/http/completion-formats.ts';

export const openGrammars = (params: {
  tokenizer: Parameters<typeof grammarTokens>[0];
  vocabSize: number;
}): Grammars =>
  new GrammarService({
    startWorker: startLocalWorker,
    tokens: grammarTokens(params.tokenizer, params.vocabSize),
    now: () => performance.now(),
  });
