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
import { automatonOf } from './automaton.ts';
import { automatonRule, textsRule } from './automaton-rules.ts';
import { GrammarError, Rules } from './ebnf.ts';
import { readRegex } from './read-regex.ts';
import { defineJson, schemaRule } from './schema-rules.ts';

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
  if (constraint.kind === 'grammar') return constraint.grammar;
  const rules = new Rules();
  switch (constraint.kind) {
    case 'json_object':
      defineJson(rules);
      return rules.text('json_object');
    case 'json_schema':
      defineJson(rules);
      return rules.text(schemaRule(rules, parsed(constraint.schema)));
    case 'regex':
      return rules.text(
        automatonRule(automatonOf(readRegex(constraint.pattern, { anywhere: false })), {
          rules,
          inJson: false,
        }),
      );
    case 'choice':
      return rules.text(textsRule(constraint.choices, rules));
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
