/** What the answers to a request are held to, compiled before anything is queued. */
import { type ApiError, constraintsOf, issuePath, ok, type Result } from '../../protocol/index.ts';
import type { Grammar } from '../engine/ports.ts';
import type { GenerationRequest } from '../generation/sampling-params.ts';
import { grammarOf } from '../grammar/constraint-grammar.ts';
import type { GrammarCaller } from '../grammar/ports.ts';
import type { Services } from './origin-context.ts';

/** @returns null when there is nothing that the answers are held to. */
export async function prepareGrammar(
  request: GenerationRequest,
  { grammars }: Pick<Services, 'grammars'>,
  caller: GrammarCaller,
): Promise<Result<Grammar | null, ApiError>> {
  const [placed] = constraintsOf(request);
  if (placed === undefined) return ok(null);
  const ebnf = grammarOf(placed);
  if (!ebnf.ok) return ebnf;
  return grammars.prepare({ ebnf: ebnf.value, param: issuePath(placed.path), caller });
}
