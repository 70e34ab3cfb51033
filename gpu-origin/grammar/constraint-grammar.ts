/** From what a request says of its answer, or of the functions in it, to the text of a grammar. */
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { badShape, issuePath } from '../../protocol/parse-body.ts';
import type {
  Constraint,
  PlacedConstraint,
  FunctionDefinition,
  ToolUse,
} from '../../protocol/request-fields.ts';
import {
  automatonRule,
  regexRule,
  setExpression,
  textsRule,
  choiceRule,
  checkClass,
} from './automaton-rules.ts';
import { ANY, anyNumberOf, automatonOf } from './automaton.ts';
import {
  CHARACTERS_A_STEP,
  complement,
  GrammarError,
  MAX_GRAMMAR_CHARACTERS,
  MAX_WRITTEN_OUT,
  merged,
  Rules,
  tooLarge,
  Work,
  literal,
  type Range,
} from './ebnf.ts';
import { schemaRule } from './schema-rules.ts';
import type { CallFormat } from './ports.ts';

/** Errors: what the grammar cannot hold, or costs too much work, by its place in the body. */
export function grammarOf(
  { constraint, path }: PlacedConstraint,
  work = new Work(),
): Result<string, ApiError> {
  return inPlace(path, () => textOf(constraint, work));
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

function textOf(constraint: Constraint, work: Work): string {
  if (constraint.kind === 'grammar') return inOurAlphabet(constraint.grammar, work);
  const rules = new Rules(work);
  defineJson(rules);
  return rules.text(constraintRule(constraint, rules));
}

/** @param rules with those of JSON. @throws GrammarError */
function constraintRule(constraint: Constraint, rules: Rules): string {
  switch (constraint.kind) {
    case 'json_object':
      return 'json_object';
    case 'json_schema':
      return schemaRule(rules, parsed(constraint.schema));
    case 'regex':
      return regexRule(constraint.pattern, rules);
    case 'choice':
      return textsRule(constraint.choices, rules);
    case 'grammar':
      throw new GrammarError("cannot be combined with 'tools'", [], true);
  }
}

function parsed(schema: unknown): unknown {
  if (typeof schema !== 'string') return schema;
  // Objects came in a body, whose shape was looked at.
  if (badShape(new TextEncoder().encode(schema)) !== null) throw new GrammarError('is nested too deep');
  try {
    return JSON.parse(schema);
  } catch {
    throw new GrammarError('is not valid JSON');
  }
}

/** A line, indented ten levels deep, or a blank: a model that writes nothing but blanks has to go on. */
const MAX_BLANKS = 20;
const DIGITS = 18;

/** Any string, of any characters. */
const STRING = automatonOf(anyNumberOf(ANY), new Work());

/**
 * Defines what all JSON grammars use; to be called once. No two choices of a rule begin alike (automaton-rules.ts says
 * why).
 */
function defineJson(rules: Rules): void {
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

/** Repetitions in your own grammar. Each is a state; a thousand take seconds. */
const MAX_REPETITION = 256;
/** `{255, 256}` with blanks, characters. */
const MAX_REPETITION_TEXT = 64;

const ESCAPES: Record<string, string> = {
  ...{ n: '\n', r: '\r', t: '\t', b: '\b', f: '\f', v: '\v', a: '\x07', e: '\x1b', '0': '\0' },
  ...Object.fromEntries([...'"\\\'?-]['].map((character) => [character, character])),
};

/** Groups nested in one another in your own grammar. The compiler recurses for each and fails at some hundreds. */
const MAX_GROUPS = 64;

/**
 * A client's grammar in XGrammar's EBNF, its texts and classes put into the alphabet (ebnf.ts says why); the rest
 * is the client's own, and the compiler says what is wrong with it.
 * @throws GrammarError for texts and classes that do not end, escapes that are none, repetitions that are too long.
 */
function inOurAlphabet(grammar: string, work: Work): string {
  const reader = new Reader([...grammar], work);
  const size = new WrittenOut();
  const written: string[] = [];
  let characters = 0;
  const write = (part: string): void => {
    written.push(part);
    characters += part.length;
    work.spend(part.length / CHARACTERS_A_STEP);
    if (characters > MAX_GRAMMAR_CHARACTERS) throw tooLarge();
  };
  for (let next = reader.take(); next !== null; next = reader.take()) {
    if (next === '#') {
      reader.skipLine();
      continue;
    }
    if (next === '{') {
      const { text, most } = reader.repetition();
      size.repeat(most);
      write(`{${text}`);
      continue;
    }
    size.take(next);
    write(next === '"' ? literal(reader.text()) : next === '[' ? reader.set() : next);
  }
  return written.join('');
}

/** How large a grammar is with its repetitions written out; rules that it names are not. */
class WrittenOut {
  /** Of the groups that are open, the whole first. */
  readonly #groups: number[] = [0];
  /** What a repetition would repeat. */
  #last = 0;

  take(next: string): void {
    if (next === '(') {
      if (this.#groups.length > MAX_GROUPS)
        throw new GrammarError(`nests groups more than ${MAX_GROUPS} deep`);
      this.#groups.push(0);
      return;
    }
    if (/[\s|*+?]/.test(next)) return;
    this.#last = next === ')' && this.#groups.length > 1 ? this.#groups.pop()! : 1;
    this.#add(this.#last);
  }

  repeat(count: number): void {
    this.#add(this.#last * Math.max(0, count - 1));
    this.#last *= count;
  }

  #add(size: number): void {
    const at = this.#groups.length - 1;
    this.#groups[at]! += size;
    if (this.#groups[at]! > MAX_WRITTEN_OUT)
      throw new GrammarError(
        `has more than ${MAX_WRITTEN_OUT} parts once its repetitions are expanded; shorten nested ` +
          'repetitions',
      );
  }
}

class Reader {
  readonly #source: readonly string[];
  readonly #work: Work;
  readonly #sets = new Map<string, string>();
  #at = 0;

  constructor(source: readonly string[], work: Work) {
    this.#source = source;
    this.#work = work;
  }

  take(): string | null {
    const next = this.#source[this.#at] ?? null;
    if (next !== null) this.#at += 1;
    return next;
  }

  skipLine(): void {
    while (this.#at < this.#source.length && this.#source[this.#at] !== '\n') this.#at += 1;
  }

  text(): string {
    let text = '';
    for (;;) {
      const next = this.take();
      if (next === null || next === '\n') throw new GrammarError('has a string without its closing quote');
      if (next === '"') return text;
      text += next === '\\' ? this.#escape() : next;
    }
  }

  set(): string {
    const begin = this.#at;
    const ranges = this.#ranges();
    const source = this.#source.slice(begin, this.#at).join('');
    const written = this.#sets.get(source) ?? setExpression(checkClass(ranges), this.#work);
    if (written === null) throw new GrammarError('has a character class that matches nothing');
    this.#sets.set(source, written);
    return written;
  }

  #ranges(): Range[] {
    const negated = this.#source[this.#at] === '^';
    if (negated) this.#at += 1;
    const ranges: Range[] = [];
    for (;;) {
      const first = this.#member();
      if (first === null) break;
      const dash = this.#source[this.#at] === '-' && this.#source[this.#at + 1] !== ']';
      if (dash) this.#at += 1;
      const last = dash ? this.#member() : first;
      if (last === null || last < first) throw new GrammarError('has a character range in the wrong order');
      ranges.push([first, last]);
    }
    this.#work.spend(ranges.length);
    return negated ? complement(ranges) : merged(ranges);
  }

  /** What stands between the brackets of a repetition, the closing one included. */
  repetition(): { text: string; most: number } {
    let text = '';
    for (let next = this.take(); next !== null && next !== '}'; next = this.take()) text += next;
    const most = Math.max(1, ...(text.slice(0, MAX_REPETITION_TEXT).match(/\d+/g) ?? []).map(Number));
    if (most > MAX_REPETITION || text.length > MAX_REPETITION_TEXT)
      throw new GrammarError(`repeats more than ${MAX_REPETITION} times`);
    return { text: `${text}}`, most };
  }

  /** @returns null at the end of the class. */
  #member(): number | null {
    const next = this.take();
    if (next === null || next === '\n') throw new GrammarError("has a character class without its ']'");
    if (next === ']') return null;
    return (next === '\\' ? this.#escape() : next).codePointAt(0)!;
  }

  #escape(): string {
    const letter = this.take();
    const digits = letter === 'x' ? 2 : letter === 'u' ? 4 : letter === 'U' ? 8 : 0;
    if (digits > 0) {
      const code = this.#source.slice(this.#at, this.#at + digits).join('');
      const value = Number.parseInt(code, 16);
      if (!/^[0-9a-fA-F]+$/.test(code) || code.length !== digits || value > 0x10ffff)
        throw new GrammarError('has an invalid character code');
      this.#at += digits;
      return String.fromCodePoint(value);
    }
    const known = letter === null ? undefined : ESCAPES[letter];
    if (known === undefined) throw new GrammarError("has an unknown escape '\${letter ?? ''}'");
    return known;
  }
}

const MARK = '<tool_call>';

/** What is before a call's name, between it and its arguments, and behind them. */
export const CALL_SHAPES: Record<CallFormat, { begin: string; between: string; end: string }> = {
  hermes: { begin: `${MARK}\n{"name": "`, between: '", "arguments": ', end: '}\n</tool_call>' },
  json: { begin: '{"name": "', between: '", "parameters": ', end: '}' },
};

/** Calls in an answer that must contain some. More go in circles. */
const MAX_CALLS = 16;

interface ToolGrammarRequest {
  use: ToolUse;
  format: CallFormat;
  /** What constrains an answer without calls. */
  constraint: PlacedConstraint | null;
  /** Where a function's definition stands in the body. */
  pathOf: (at: number) => readonly PropertyKey[];
}

/** Errors: an unsupported schema, where the function is `strict`; an unsupported constraint. */
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
