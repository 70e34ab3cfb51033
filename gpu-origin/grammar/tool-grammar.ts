/** Answers that call functions, as grammars. */
import {
  type ApiError,
  type FunctionDefinition,
  ok,
  type PlacedConstraint,
  type Result,
  type ToolUse,
} from '../../protocol/index.ts';
import { literal } from './alphabet.ts';
import { choiceRule } from './automaton-rules.ts';
import { constraintRule, defineJson, inPlace } from './constraint-grammar.ts';
import { Rules, Work } from './ebnf.ts';
import type { CallFormat } from './ports.ts';
import { schemaRule } from './schema-rules.ts';

const MARK = '<tool_call>';

/** What is before a call's name, between it and its arguments, and behind them. */
export const CALL_SHAPES: Record<CallFormat, { begin: string; between: string; end: string }> = {
  hermes: { begin: `${MARK}\n{"name": "`, between: '", "arguments": ', end: '}\n</tool_call>' },
  json: { begin: '{"name": "', between: '", "parameters": ', end: '}' },
};

/** Calls of an answer that has to have some; more go in circles. */
const MAX_CALLS = 16;

export interface ToolGrammarRequest {
  use: ToolUse;
  format: CallFormat;
  /** What an answer without calls is held to. */
  constraint: PlacedConstraint | null;
  /** Where a function's definition stands in the body. */
  pathOf: (at: number) => readonly PropertyKey[];
}

/** Errors: a schema that cannot be held to, where the function is `strict`; a constraint that cannot. */
export function toolGrammarOf(request: ToolGrammarRequest, work = new Work()): Result<string, ApiError> {
  const { use, format, constraint, pathOf } = request;
  const rules = new Rules(work);
  defineJson(rules);
  const choices: { text: string; rule: string }[] = [];
  const { begin, between, end } = CALL_SHAPES[format];
  for (const [at, definition] of use.functions.entries()) {
    if (typeof use.choice === 'object' && use.choice.name !== definition.name) continue;
    const made = argumentsRule(definition, rules, [...pathOf(at), 'parameters']);
    if (!made.ok) return made;
    choices.push({ text: definition.name + between, rule: rules.add(`${made.value} ${literal(end)}`) });
  }
  return inPlace(constraint?.path ?? [], () => {
    const named = choiceRule(choices, rules);
    const call = rules.add(`${literal(begin)} ${named}`);
    // Of this format there is one: its base writes no second one behind it.
    const several = use.parallel && format === 'hermes';
    const calls = several ? rules.add(`${call} ("\\n" ${call}){0,${MAX_CALLS - 1}}`) : call;
    if (use.choice !== 'auto') return rules.text(calls);
    if (constraint !== null) return rules.text(`${calls} | ${constraintRule(constraint.constraint, rules)}`);
    return rules.text(
      format === 'hermes' ? untilMarked(rules, named, several) : `${calls} | ${unlikeCalls(rules)}`,
    );
  });
}

/** Any text; where a call begins, it is one. Behind it comes any text again, or nothing where there may be one only. */
function untilMarked(rules: Rules, named: string, several: boolean): string {
  const rest = rules.add(`${literal(CALL_SHAPES.hermes.begin.slice(MARK.length))} ${named}`);
  return `TagDispatch((${literal(MARK)}, ${rest}), stop_eos=true, loop_after_dispatch=${several})`;
}

/** Any text that does not begin as an object. */
function unlikeCalls(rules: Rules): string {
  const any = rules.reserve();
  rules.define(any, `"" | [\\x00-\\x7f] ${any}`);
  return rules.add(`"" | [\\x00-\\x7a\\x7c-\\x7f] ${any}`);
}

function argumentsRule(
  { parameters, strict }: FunctionDefinition,
  rules: Rules,
  path: readonly PropertyKey[],
): Result<string, ApiError> {
  const schema = { type: 'object', properties: {}, ...parameters };
  const made = inPlace(path, () => rules.attempt(() => schemaRule(rules, schema)));
  // Where the work of the whole request is spent, nothing more can be made of it.
  return made.ok || strict === true || rules.work.isSpent ? made : ok('json_object');
}
