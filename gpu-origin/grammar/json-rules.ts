/** Rules of JSON text. No two choices of a rule begin alike (automaton-rules.ts says why). */
import { ANY, anyNumberOf, automatonOf } from './automaton.ts';
import { automatonRule } from './automaton-rules.ts';
import type { Rules } from './ebnf.ts';

/** A line, indented ten levels deep, or a blank: a model that writes nothing but blanks has to go on. */
const MAX_BLANKS = 20;
const DIGITS = 18;

/** Any string, of any characters. */
const STRING = automatonOf(anyNumberOf(ANY));

/** Defines what all JSON grammars use; to be called once. */
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
