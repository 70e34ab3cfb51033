/** JSON Schema as a grammar of JSON text: what it lets through is valid, and what it cannot hold is refused by name. */
import { isMap } from '../../protocol/index.ts';
import { ANY, type Automaton, automatonOf, both } from './automaton.ts';
import { automatonRule, regexRule, textsRule } from './automaton-rules.ts';
import { atPath, cannotHold, GrammarError, type Rules, type Work } from './ebnf.ts';
import { FORMATS, integerBetween, numberBetween } from './value-patterns.ts';
import { ObjectRules } from './object-rules.ts';
import { readRegex } from './read-regex.ts';
import {
  areDisjoint,
  assertionsOf,
  COMBINING,
  count,
  isKnown,
  KEYWORDS,
  resolveReference,
  type Schema,
  type TypeName,
  TYPES,
  typesOf,
} from './schema-keywords.ts';

type Path = readonly PropertyKey[];

/** Schemas inside one another, references followed. */
const MAX_DEPTH = 64;
/** Values of one `enum`. */
const MAX_ENUM = 1_000;
/** `{m,n}` of a rule: each is a state. */
const MAX_ITEMS = 1_000;
/** A state for each character, and some 20 ms to compile it. */
export const MAX_LENGTH = 256;

/** @returns the rule of a schema's values. @throws GrammarError with the path of what is not understood. */
export function schemaRule(rules: Rules, schema: unknown): string {
  return new SchemaRules(rules, schema).of(schema, [], 0);
}

class SchemaRules {
  readonly #rules: Rules;
  readonly #root: unknown;
  readonly #objects: ObjectRules;
  /** Rules of what is referred to; there before they are defined, for what contains itself. */
  readonly #references = new Map<unknown, string>();
  /** A schema may be asked for by many: of additional properties, by each name that the schema needs. */
  readonly #made = new Map<unknown, string>();

  constructor(rules: Rules, root: unknown) {
    this.#rules = rules;
    this.#root = root;
    this.#objects = new ObjectRules(rules, (schema, path, depth) => this.of(schema, path, depth));
  }

  of(schema: unknown, path: Path, depth: number): string {
    atPath(path, () => this.#rules.work.spend(1));
    if (depth > MAX_DEPTH) throw new GrammarError(`is nested deeper than ${MAX_DEPTH} schemas`, path);
    if (schema === true) return 'json_value';
    if (schema === false) throw new GrammarError('lets no value through', path);
    if (!isMap(schema)) throw new GrammarError('must be a schema: an object, or true', path);
    const made = this.#made.get(schema) ?? this.#make(schema, path, depth);
    this.#made.set(schema, made);
    return made;
  }

  #make(schema: Schema, path: Path, depth: number): string {
    const keywords = assertionsOf(schema);
    const unknown = keywords.find((keyword) => !isKnown(keyword));
    if (unknown !== undefined) throw cannotHold([...path, unknown]);
    const combining = COMBINING.find((keyword) => keywords.includes(keyword));
    if (combining !== undefined) return this.#combined(schema, combining, keywords, { path, depth });
    if (schema === this.#root && !this.#references.has(schema)) return this.#referred(schema, path, depth);
    return this.#plain(schema, keywords, path, depth);
  }

  #plain(schema: Schema, keywords: readonly string[], path: Path, depth: number): string {
    if ('const' in schema || 'enum' in schema) return this.#values(schema, keywords, path);
    const types = this.#types(schema, keywords, path);
    if (types === null) return 'json_value';
    const parts = types.map((type) => this.#typed(type, schema, path, depth));
    return parts.length === 1 ? parts[0]! : this.#rules.add(parts.join(' | '));
  }

  #combined(
    schema: Schema,
    keyword: (typeof COMBINING)[number],
    keywords: readonly string[],
    { path, depth }: { path: Path; depth: number },
  ): string {
    const beside = keywords.find((other) => other !== keyword);
    if (beside !== undefined)
      throw new GrammarError(`is not understood beside '${keyword}'; put it inside`, [...path, beside]);
    const here = [...path, keyword];
    const value = schema[keyword];
    if (keyword === '$ref') {
      const target = resolveReference(this.#root, value, here);
      return this.#referred(target, here, depth);
    }
    if (!Array.isArray(value) || value.length === 0)
      throw new GrammarError('must be a list of schemas', here);
    if (keyword === 'allOf' && value.length > 1)
      throw new GrammarError('is understood with one schema only; merge them into one', here);
    if (keyword === 'oneOf' && !this.#areDisjoint(value, here))
      throw new GrammarError(
        "is understood where no value fits two of its schemas: other types, or a required property with other constants; use 'anyOf'",
        here,
      );
    const parts = value.map((branch, at) => this.of(branch, [...here, at], depth + 1));
    return parts.length === 1 ? parts[0]! : this.#rules.add([...new Set(parts)].join(' | '));
  }

  #areDisjoint(branches: readonly unknown[], path: Path): boolean {
    const resolve = (reference: unknown): unknown => resolveReference(this.#root, reference, path);
    return atPath(path, () => areDisjoint(branches, resolve, this.#rules.work));
  }

  #referred(target: unknown, path: Path, depth: number): string {
    const known = this.#references.get(target);
    if (known !== undefined) return known;
    const name = this.#rules.reserve();
    this.#references.set(target, name);
    this.#rules.define(name, this.of(target, path, depth + 1));
    return name;
  }

  #types(schema: Schema, keywords: readonly string[], path: Path): TypeName[] | null {
    const { type } = schema;
    if (type === undefined) return typesOf(keywords);
    const names: unknown[] = Array.isArray(type) ? type : [type];
    if (names.length === 0 || !names.every((name) => TYPES.some((known) => known === name)))
      throw new GrammarError(`must be one of ${TYPES.join(', ')}, or a list of them`, [...path, 'type']);
    const all = new Set(names as TypeName[]);
    if (all.has('number')) all.delete('integer');
    // Keywords of other types say nothing; so do those of all types that are not named.
    return [...all];
  }

  #values(schema: Schema, keywords: readonly string[], path: Path): string {
    const name = 'const' in schema ? 'const' : 'enum';
    const here = [...path, name];
    const beside = keywords.find((other) => other !== name && other !== 'type');
    if (beside !== undefined) throw new GrammarError(`is not understood beside '${name}'`, [...path, beside]);
    const values: unknown = name === 'const' ? [schema['const']] : schema['enum'];
    if (!Array.isArray(values) || values.length === 0 || values.length > MAX_ENUM)
      throw new GrammarError(`must be a list of 1 to ${MAX_ENUM} values`, here);
    const types = 'type' in schema ? this.#types(schema, keywords, path) : null;
    const fitting = values.filter((value) => types === null || types.some((type) => hasType(value, type)));
    if (fitting.length === 0) throw new GrammarError("has no value of the schema's type", here);
    return atPath(here, () =>
      textsRule(
        fitting.map((value) => JSON.stringify(value)),
        this.#rules,
      ),
    );
  }

  #typed(type: TypeName, schema: Schema, path: Path, depth: number): string {
    switch (type) {
      case 'object':
        return this.#objects.of(schema, path, depth);
      case 'array':
        return this.#array(schema, path, depth);
      case 'string':
        return this.#string(schema, path);
      case 'number':
      case 'integer':
        return this.#number(type, schema, path);
      case 'boolean':
        return '("true" | "false")';
      case 'null':
        return '"null"';
    }
  }

  #array(schema: Schema, path: Path, depth: number): string {
    const { prefixItems, items } = schema;
    if (schema['uniqueItems'] === true) throw cannotHold([...path, 'uniqueItems']);
    const min = count(schema, 'minItems', path, MAX_ITEMS) ?? 0;
    const max = count(schema, 'maxItems', path, MAX_ITEMS);
    if (max !== null && min > max) throw new GrammarError("is above 'maxItems'", [...path, 'minItems']);
    if (prefixItems !== undefined && !Array.isArray(prefixItems))
      throw new GrammarError('must be a list of schemas', [...path, 'prefixItems']);
    const prefix = (prefixItems ?? []).map((item: unknown, at) =>
      this.of(item, [...path, 'prefixItems', at], depth + 1),
    );
    const first = prefix.slice(0, max ?? prefix.length);
    const closed = items === false || (items === undefined && first.length > 0);
    if (closed && min > first.length)
      throw new GrammarError('is more than the schema has items for', [...path, 'minItems']);
    const rest = closed
      ? null
      : items === undefined
        ? 'json_value'
        : this.of(items, [...path, 'items'], depth + 1);
    const least = Math.max(0, min - first.length);
    const most = max === null ? null : max - first.length;
    atPath(path, () => this.#rules.times(Math.max(least, most ?? 0)));
    const body = listOf(first, rest, least, most);
    if (body === '') return this.#rules.add('"[" ws "]"');
    return this.#rules.add(`"[" ws ${least + first.length === 0 ? `(${body} ws)?` : `${body} ws`} "]"`);
  }

  #string(schema: Schema, path: Path): string {
    const min = count(schema, 'minLength', path, MAX_LENGTH) ?? 0;
    const max = count(schema, 'maxLength', path, MAX_LENGTH) ?? Infinity;
    if (min > max) throw new GrammarError("is above 'maxLength'", [...path, 'minLength']);
    const named = (['pattern', 'format'] as const).filter((name) => name in schema);
    if (min === 0 && max === Infinity && named.length === 0) return 'json_string';
    const key = JSON.stringify([min, max, ...named.map((name) => [name, schema[name]])]);
    return this.#rules.once(`string ${key}`, () => {
      const { work } = this.#rules;
      const wanted = named.map((name) => matching(name, schema[name], { path: [...path, name], work }));
      return atPath(path, () => {
        if (min > 0 || max < Infinity)
          wanted.unshift(automatonOf({ kind: 'repeat', part: ANY, min, max }, work));
        const all = wanted.reduce((one, other) => both(one, other, work));
        return this.#rules.add(`"\\"" ${automatonRule(all, { rules: this.#rules, inJson: true })}`);
      });
    });
  }

  #number(type: 'number' | 'integer', schema: Schema, path: Path): string {
    const { multipleOf } = schema;
    if (multipleOf !== undefined && !(multipleOf === 1 && type === 'integer'))
      throw cannotHold([...path, 'multipleOf']);
    if (!KEYWORDS.number.some((keyword) => keyword !== 'multipleOf' && keyword in schema))
      return `json_${type}`;
    const bound = (name: string): number | null => {
      const value = schema[name];
      if (value === undefined) return null;
      if (typeof value !== 'number' || (type === 'number' && !Number.isInteger(value)))
        throw new GrammarError(
          typeof value === 'number' ? 'must be a whole number to be held to' : 'must be a number',
          [...path, name],
        );
      return value;
    };
    const [min, above, max, below] = ['minimum', 'exclusiveMinimum', 'maximum', 'exclusiveMaximum'].map(
      bound,
    ) as [number | null, number | null, number | null, number | null];
    const bounds = {
      min: Math.max(min ?? -Infinity, above ?? -Infinity),
      max: Math.min(max ?? Infinity, below ?? Infinity),
      aboveMin: above !== null && above >= (min ?? -Infinity),
      belowMax: below !== null && below <= (max ?? Infinity),
    };
    const between = type === 'integer' ? integerBetween : numberBetween;
    return atPath(path, () => regexRule(between(bounds), this.#rules));
  }
}

/** @throws GrammarError */
function matching(
  name: 'pattern' | 'format',
  value: unknown,
  { path, work }: { path: Path; work: Work },
): Automaton {
  if (typeof value !== 'string') throw new GrammarError('must be a text', path);
  const format = name === 'format' ? FORMATS.get(value) : undefined;
  if (name === 'format' && format === undefined)
    throw new GrammarError(`is none of ${[...FORMATS.keys()].join(', ')}`, path, true);
  return atPath(path, () =>
    automatonOf(readRegex(format ?? value, { anywhere: format === undefined, work }), work),
  );
}

/** @param most of `rest`; null = any number. @returns '' when there is nothing. */
function listOf(first: readonly string[], rest: string | null, least: number, most: number | null): string {
  const head = first.join(' "," ws ');
  if (rest === null || most === 0) return head;
  const repeat = (from: number): string =>
    most === null
      ? `("," ws ${rest}){${from},}`
      : `("," ws ${rest}){${from},${most - (head === '' ? 1 : 0)}}`;
  if (head !== '') return `${head} ${repeat(least)}`;
  return most === 1 ? rest : `${rest} ${repeat(Math.max(0, least - 1))}`;
}

function hasType(value: unknown, type: TypeName): boolean {
  switch (type) {
    case 'null':
      return value === null;
    case 'array':
      return Array.isArray(value);
    case 'object':
      return isMap(value);
    case 'integer':
      return Number.isInteger(value);
    default:
      return typeof value === type;
  }
}
