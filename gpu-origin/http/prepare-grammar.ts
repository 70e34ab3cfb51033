/** What the answers to a request are held to, compiled before anything is queued. */
import { type ApiError, constraintsOf, issuePath, ok, type Result, toolUseOf } from '../../protocol/index.ts';
import type { Grammar } from '../engine/ports.ts';
import type { GenerationRequest } from '../generation/sampling-params.ts';
import { grammarOf } from '../grammar/constraint-grammar.ts';
import type { GrammarCaller } from '../grammar/ports.ts';
import { toolGrammarOf } from '../grammar/tool-grammar.ts';
import type { Services } from './origin-context.ts';

/** @returns null when there is nothing that the answers are held to. */
export async function prepareGrammar(
  request: GenerationRequest,
  { grammars, chatTemplate }: Pick<Services, 'grammars' | 'chatTemplate'>,
  caller: GrammarCaller,
): Promise<Result<Grammar | null, ApiError>> {
  const [placed] = constraintsOf(request);
  const use = 'prompt' in request ? null : toolUseOf(request);
  if (use !== null) {
    const format = chatTemplate?.toolFormat ?? 'hermes';
    const made = toolGrammarOf({
      ...{ use, format },
      constraint: placed ?? null,
      pathOf: (at) => ('messages' in request ? ['tools', at, 'function'] : ['tools', at]),
    });
    const asked = { constraint: placed?.constraint ?? null, tools: { use, format } };
    return made.ok ? grammars.prepare({ ebnf: made.value, asked, param: 'tools', caller }) : made;
  }
  if (placed === undefined) return ok(null);
  const ebnf = grammarOf(placed);
  if (!ebnf.ok) return ebnf;
  const asked = { constraint: placed.constraint, tools: null };
  return grammars.prepare({ ebnf: ebnf.value, asked, param: issuePath(placed.path), caller });
}
