/** From what a request says of its answer to the text of a grammar. */
import {
  type ApiError,
  badShape,
  type Constraint,
  err,
  issuePath,
  ok,
  type PlacedConstraint,
  type Result,
} from '../../protocol/index.ts';
import { automatonRule, textsRule } from './automaton-rules.ts';
import { ANY, anyNumberOf, automatonOf } from './automaton.ts';
import { inOurAlphabet } from './client-grammar.ts';
import { GrammarError, Rules } from './ebnf.ts';
import { readRegex } from './read-regex.ts';
import { schemaRule } from './schema-rules.ts';

/** Errors: what the grammar cannot hold, by its place in the body. */
export function grammarOf({ constraint, path }: PlacedConstraint): Result<string, ApiError> {
  return inPlace(path, () => textOf(constraint));
}

/** Makes something of a part of the body. @returns its error by its place. */
export function inPlace<T>(path: readonly PropertyKey[], make: () => T): Result<T, ApiError> {
  try {
    return ok(make());
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    const param = issuePath([...path, ...error.path]);
    const code = error.unsupported ? 'unsupported_parameter' : 'invalid_request';
    return err({ code, message: `'${param}' ${error.message}.`, param });
  }
}

function textOf(constraint: Constraint): string {
  if (constraint.kind === 'grammar') return inOurAlphabet(constraint.grammar);
  const rules = new Rules();
  defineJson(rules);
  return rules.text(constraintRule(constraint, rules));
}

/** @param rules with those of JSON. @throws GrammarError */
export function constraintRule(constraint: Constraint, rules: Rules): string {
  switch (constraint.kind) {
    case 'json_object':
      return 'json_object';
    case 'json_schema':
      return schemaRule(rules, parsed(constraint.schema));
    case 'regex':
      return automatonRule(automatonOf(readRegex(constraint.pattern, { anywhere: false })), {
        rules,
        inJson: false,
      });
    case 'choice':
      return textsRule(constraint.choices, rules);
    case 'grammar':
      throw new GrammarError("is not understood beside 'tools'", [], true);
  }
}

function parsed(schema: unknown): unknown {
  if (typeof schema !== 'string') return schema;
  // Objects came in a body, whose shape was looked at.
  if (badShape(new TextEncoder().encode(schema)) !== null) throw new GrammarError('is nested too deep');
  try {
    return JSON.parse(schema);
  } catch {
    throw new GrammarError('is no JSON');
  }
}

/** A line, indented ten levels deep, or a blank: a model that writes nothing but blanks has to go on. */
const MAX_BLANKS = 20;
const DIGITS = 18;

/** Any string, of any characters. */
const STRING = automatonOf(anyNumberOf(ANY));

/**
 * Defines what all JSON grammars use; to be called once. No two choices of a rule begin alike (automaton-rules.ts says
 * why).
 */
export function defineJson(rules: Rules): void {
  rules.define('ws', `"" | " " | "\\n" [ ]{0,${MAX_BLANKS}}`);
  rules.define('json_string', `"\\"" ${automatonRule(STRING, { rules, inJson: true })}`);
  rules.define('json_integer', `"-"? ("0" | [1-9] [0-9]{0,${DIGITS}})`);
  rules.define('json_number', `json_integer ("." [0-9]{1,${DIGITS}})? ([eE] [+-]? [0-9]{1,2})?`);
  rules.define(
    'json_value',
    'json_string | json_number | json_object | json_array | "true" | "false" | "null"',
  );
  rules.define('json_member', 'json_string ":" ws json_value');
  rules.define('json_object', '"{" ws (json_member ("," ws json_member)* ws)? "}"');
  rules.define('json_array', '"[" ws (json_value ("," ws json_value)* ws)? "]"');
}
