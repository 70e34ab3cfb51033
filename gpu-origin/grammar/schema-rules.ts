/** JSON Schema as a grammar of JSON text: what it lets through is valid, and what it cannot hold is refused by name. */
import { isMap } from '../../protocol/parse-body.ts';
import { ANY, type Automaton, automatonOf, both, anyNumberOf, butNot } from './automaton.ts';
import { automatonRule, regexRule, textsRule, readRegex } from './automaton-rules.ts';
import { atPath, unsupportedConstraint, GrammarError, type Rules, Work, literal } from './ebnf.ts';
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

/** Schemas nested in one another, references followed. */
const MAX_DEPTH = 64;
/** Values of one `enum`. */
const MAX_ENUM = 1_000;
/** `minItems`, `maxItems`, `minProperties` and `maxProperties`. Each repetition is a state. */
const MAX_ITEMS = 1_000;
/** `minLength` and `maxLength`. Each character is a state that takes some 20 ms to compile. */
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
    if (schema === false) throw new GrammarError('allows no value', path);
    if (!isMap(schema)) throw new GrammarError('must be a schema: an object, or true', path);
    const made = this.#made.get(schema) ?? this.#make(schema, path, depth);
    this.#made.set(schema, made);
    return made;
  }

  #make(schema: Schema, path: Path, depth: number): string {
    const keywords = assertionsOf(schema);
    const unknown = keywords.find((keyword) => !isKnown(keyword));
    if (unknown !== undefined) throw unsupportedConstraint([...path, unknown]);
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
      throw new GrammarError(`cannot be combined with '${keyword}'; move it inside`, [...path, beside]);
    const here = [...path, keyword];
    const value = schema[keyword];
    if (keyword === '$ref') {
      const target = resolveReference(this.#root, value, here);
      return this.#referred(target, here, depth);
    }
    if (!Array.isArray(value) || value.length === 0)
      throw new GrammarError('must be a list of schemas', here);
    if (keyword === 'allOf' && value.length > 1)
      throw new GrammarError('is supported with one schema only; merge them into one', here);
    if (keyword === 'oneOf' && !this.#areDisjoint(value, here))
      throw new GrammarError(
        'is supported only if no value matches two of its schemas (different types, or a required ' +
          "property with different constants); otherwise use 'anyOf'",
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
    if (beside !== undefined) throw new GrammarError(`cannot be combined with '${name}'`, [...path, beside]);
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
    if (schema['uniqueItems'] === true) throw unsupportedConstraint([...path, 'uniqueItems']);
    const min = count(schema, 'minItems', path, MAX_ITEMS) ?? 0;
    const max = count(schema, 'maxItems', path, MAX_ITEMS);
    if (max !== null && min > max) throw new GrammarError("exceeds 'maxItems'", [...path, 'minItems']);
    if (prefixItems !== undefined && !Array.isArray(prefixItems))
      throw new GrammarError('must be a list of schemas', [...path, 'prefixItems']);
    const prefix = (prefixItems ?? []).map((item: unknown, at) =>
      this.of(item, [...path, 'prefixItems', at], depth + 1),
    );
    const first = prefix.slice(0, max ?? prefix.length);
    const closed = items === false || (items === undefined && first.length > 0);
    if (closed && min > first.length)
      throw new GrammarError('exceeds the number of items in the schema', [...path, 'minItems']);
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
    if (min > max) throw new GrammarError("exceeds 'maxLength'", [...path, 'minLength']);
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
      throw unsupportedConstraint([...path, 'multipleOf']);
    if (!KEYWORDS.number.some((keyword) => keyword !== 'multipleOf' && keyword in schema))
      return `json_${type}`;
    const bound = (name: string): number | null => {
      const value = schema[name];
      if (value === undefined) return null;
      if (typeof value !== 'number' || (type === 'number' && !Number.isInteger(value)))
        throw new GrammarError(typeof value === 'number' ? 'must be a whole number' : 'must be a number', [
          ...path,
          name,
        ]);
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
  if (typeof value !== 'string') throw new GrammarError('must be a string', path);
  const format = name === 'format' ? FORMATS.get(value) : undefined;
  if (name === 'format' && format === undefined)
    throw new GrammarError(`must be one of ${[...FORMATS.keys()].join(', ')}`, path, true);
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

/** Parts of formats; each text that matches is valid, not the other way round. */
const HOUR_MINUTE = '([01]\\d|2[0-3]):[0-5]\\d';
const DATE =
  '[12]\\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))';
const TIME = `${HOUR_MINUTE}:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]${HOUR_MINUTE})`;
const BYTE = '(\\d|[1-9]\\d|1\\d\\d|2[0-4]\\d|25[0-5])';
const LABEL = '[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?';
const HOST = `${LABEL}(\\.${LABEL}){0,3}`;

/** Values of JSON Schema as regular expressions: its formats, and numbers between bounds. */
export const FORMATS: ReadonlyMap<string, string> = new Map([
  ['date', DATE],
  ['time', TIME],
  ['date-time', `${DATE}T${TIME}`],
  [
    'duration',
    'P(\\d{1,4}W|\\d{1,4}Y(\\d{1,2}M(\\d{1,3}D)?)?|\\d{1,2}M(\\d{1,3}D)?|\\d{1,3}D|T(\\d{1,4}H(\\d{1,2}M(\\d{1,2}S)?)?|\\d{1,4}M(\\d{1,2}S)?|\\d{1,5}S))',
  ],
  ['email', `[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@${LABEL}(\\.${LABEL}){1,3}`],
  ['hostname', HOST],
  ['ipv4', `${BYTE}\\.${BYTE}\\.${BYTE}\\.${BYTE}`],
  ['ipv6', '([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}'],
  ['uuid', '[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}'],
  [
    'uri',
    `https?://${HOST}(:[1-9]\\d{1,3})?(/[A-Za-z0-9._~-]+)*/?(\\?[A-Za-z0-9._~=&-]+)?(#[A-Za-z0-9._~-]+)?`,
  ],
]);

interface Bounds {
  /** Whole; -Infinity = none. */
  min: number;
  max: number;
  /** The bound itself is left out. */
  aboveMin: boolean;
  belowMax: boolean;
}

/** Digits of a number that has no bound on this side. */
const MOST_DIGITS = 15;
const UNBOUNDED = 10 ** MOST_DIGITS - 1;
const FRACTION = '\\.[0-9]{1,15}';
/** Anything but zeros. */
const SOME_FRACTION = '\\.[0-9]{0,14}[1-9]';

/** Whole numbers of JSON: no exponents, no leading zeros. @throws GrammarError when there is no such number. */
function integerBetween({ min, max, aboveMin, belowMax }: Bounds): string {
  const low = Math.max(Math.ceil(aboveMin && Number.isInteger(min) ? min + 1 : min), -UNBOUNDED);
  const high = Math.min(Math.floor(belowMax && Number.isInteger(max) ? max - 1 : max), UNBOUNDED);
  if (low > high) throw new GrammarError('allows no value: the minimum exceeds the maximum');
  const parts: string[] = [];
  if (low < 0) parts.push(`-(${wholeBetween(Math.max(1, -high), -low)})`);
  if (high >= 0) parts.push(wholeBetween(Math.max(0, low), high));
  return `(${parts.join('|')})`;
}

/** The same with fractions. @throws GrammarError when there is no such number. */
function numberBetween(bounds: Bounds): string {
  const { min, max } = bounds;
  if (min > max || (min === max && (bounds.aboveMin || bounds.belowMax)))
    throw new GrammarError('allows no value: the minimum exceeds the maximum');
  const parts: string[] = [];
  if (min < 0)
    parts.push(
      `-${magnitude({
        ...{ min: Math.max(0, -max), max: -min },
        ...{ aboveMin: max > 0 ? false : bounds.belowMax, belowMax: bounds.aboveMin },
      })}`,
    );
  if (max > 0 || (max === 0 && !bounds.belowMax))
    parts.push(magnitude({ ...bounds, min: Math.max(0, min), aboveMin: min >= 0 && bounds.aboveMin }));
  return `(${parts.join('|')})`;
}

/** @param bounds of 0 or more, whole. */
function magnitude({ min, max, aboveMin, belowMax }: Bounds): string {
  const high = Math.min(max, UNBOUNDED);
  const parts: string[] = [];
  // Whole parts from which every fraction stays below the bound.
  const last = high - 1;
  if (aboveMin && min <= last) {
    parts.push(`(${wholeBetween(min, min)})${SOME_FRACTION}`);
    if (min + 1 <= last) parts.push(`(${wholeBetween(min + 1, last)})(${FRACTION})?`);
  } else if (min <= last) parts.push(`(${wholeBetween(min, last)})(${FRACTION})?`);
  if (!belowMax && (high > min || !aboveMin)) parts.push(`(${wholeBetween(high, high)})(\\.0{1,3})?`);
  if (parts.length === 0) throw new GrammarError('allows no value: the minimum exceeds the maximum');
  return `(${parts.join('|')})`;
}

/** @param low 0 or more. */
function wholeBetween(low: number, high: number): string {
  const parts: string[] = [];
  const most = String(high).length;
  for (let digits = String(low).length; digits <= most; digits += 1) {
    const from = Math.max(low, digits === 1 ? 0 : 10 ** (digits - 1));
    const to = Math.min(high, 10 ** digits - 1);
    if (from <= to) parts.push(sameLength(String(from), String(to)));
  }
  return parts.join('|');
}

function sameLength(from: string, to: string): string {
  if (from === '') return '';
  const rest = from.length - 1;
  const any = rest === 0 ? '' : `[0-9]{${rest}}`;
  const [a, b] = [Number(from[0]), Number(to[0])];
  const all = (first: number, last: number): string => `[${first}-${last}]${any}`;
  if (rest === 0) return all(a, b);
  const lowest = /^0*$/.test(from.slice(1));
  const highest = /^9*$/.test(to.slice(1));
  if (a === b && !(lowest && highest)) return `${a}(${sameLength(from.slice(1), to.slice(1))})`;
  const parts: string[] = [];
  const first = lowest ? a : a + 1;
  const last = highest ? b : b - 1;
  if (!lowest) parts.push(`${a}(${sameLength(from.slice(1), '9'.repeat(rest))})`);
  if (first <= last) parts.push(all(first, last));
  if (!highest) parts.push(`${b}(${sameLength('0'.repeat(rest), to.slice(1))})`);
  return parts.join('|');
}

type SchemaRule = (schema: unknown, path: readonly PropertyKey[], depth: number) => string;

/** Properties of one object. */
const MAX_PROPERTIES = 500;

/** Objects of JSON Schema: properties in the schema's order, then additional ones where they are allowed. */
class ObjectRules {
  readonly #rules: Rules;
  readonly #ruleOf: SchemaRule;

  constructor(rules: Rules, ruleOf: SchemaRule) {
    this.#rules = rules;
    this.#ruleOf = ruleOf;
  }

  /**
   * Additional properties are allowed where the schema says so in words, not where it says nothing: an answer that has
   * none is valid either way.
   */
  of(schema: Schema, path: readonly PropertyKey[], depth: number): string {
    const properties = mapOf(schema, 'properties', path);
    const required = new Set(namesOf(schema, path));
    const { additionalProperties: more } = schema;
    const names = [...new Set([...Object.keys(properties), ...required])];
    if (names.length > MAX_PROPERTIES)
      throw new GrammarError(`has more than ${MAX_PROPERTIES} properties`, [...path, 'properties']);
    const min = count(schema, 'minProperties', path, MAX_PROPERTIES);
    const max = count(schema, 'maxProperties', path, MAX_PROPERTIES);
    if (names.length === 0) return this.#map(schema, more, { min: min ?? 0, max, path, depth });
    const counted =
      min !== null && min > required.size
        ? 'minProperties'
        : max !== null && max < names.length
          ? 'maxProperties'
          : null;
    if (counted !== null) throw new GrammarError("cannot be combined with 'properties'", [...path, counted]);
    const members = names.map((name) => ({
      rule: this.#member(name, { properties, more, path, depth }),
      needed: required.has(name),
    }));
    const open = more !== undefined && more !== false;
    const extra = open
      ? this.#extra(names, this.#ruleOf(more, [...path, 'additionalProperties'], depth + 1), path)
      : null;
    return this.#sequence(members, extra);
  }

  #member(
    name: string,
    {
      properties,
      more,
      path,
      depth,
    }: { properties: Schema; more: unknown; path: readonly PropertyKey[]; depth: number },
  ): string {
    const key = literal(`${JSON.stringify(name)}:`);
    if (Object.hasOwn(properties, name))
      return this.#rules.add(
        `${key} ws ${this.#ruleOf(properties[name], [...path, 'properties', name], depth + 1)}`,
      );
    if (more === false)
      throw new GrammarError(`requires '${name}', which the schema does not allow`, [...path, 'required']);
    return this.#rules.add(
      `${key} ws ${more === undefined ? 'json_value' : this.#ruleOf(more, [...path, 'additionalProperties'], depth + 1)}`,
    );
  }

  /**
   * Two rules for each property: one where others stand before it, one where it is the first. Both go on without it
   * where it is not needed.
   */
  #sequence(members: readonly { rule: string; needed: boolean }[], extra: string | null): string {
    let later = extra === null ? '""' : this.#rules.add(`("," ws ${extra})*`);
    let first = extra === null ? null : this.#rules.add(`${extra} ("," ws ${extra})*`);
    let mayBeEmpty = true;
    for (const { rule, needed } of [...members].reverse()) {
      const after = later;
      later = this.#rules.add(needed ? `"," ws ${rule} ${after}` : `"," ws ${rule} ${after} | ${after}`);
      const here = `${rule} ${after}`;
      first = this.#rules.add(needed || first === null ? here : `${here} | ${first}`);
      mayBeEmpty &&= !needed;
    }
    return this.#rules.add(`"{" ws ${mayBeEmpty ? `(${first!} ws)?` : `${first!} ws`} "}"`);
  }

  /** Any names, all with values of one kind. */
  #map(
    schema: Schema,
    more: unknown,
    {
      min,
      max,
      path,
      depth,
    }: { min: number; max: number | null; path: readonly PropertyKey[]; depth: number },
  ): string {
    if (max !== null && min > max)
      throw new GrammarError("exceeds 'maxProperties'", [...path, 'minProperties']);
    // `properties: {}`, as functions without parameters have it.
    const none = more === false || (more === undefined && 'properties' in schema);
    if (none && min > 0)
      throw new GrammarError('exceeds the number of properties in the schema', [...path, 'minProperties']);
    if (none || max === 0) return this.#rules.add('"{" ws "}"');
    if (min === 0 && max === null && (more === undefined || more === true)) return 'json_object';
    const value =
      more === undefined ? 'json_value' : this.#ruleOf(more, [...path, 'additionalProperties'], depth + 1);
    const member = this.#rules.add(`json_string ":" ws ${value}`);
    // Names that repeat would count as one.
    if (min > 1) throw new GrammarError('is supported up to 1', [...path, 'minProperties']);
    atPath(path, () => this.#rules.times(max ?? 0));
    const others = max === null ? `("," ws ${member})*` : `("," ws ${member}){0,${max - 1}}`;
    return this.#rules.add(
      `"{" ws ${min === 0 ? `(${member} ${others} ws)?` : `${member} ${others} ws`} "}"`,
    );
  }

  /** A member with another name than these. */
  #extra(names: readonly string[], value: string, path: readonly PropertyKey[]): string {
    return atPath([...path, 'properties'], () => {
      const others = butNot(ANYTHING, names, this.#rules.work);
      return this.#rules.add(
        `"\\"" ${automatonRule(others, { rules: this.#rules, inJson: true })} ":" ws ${value}`,
      );
    });
  }
}

const ANYTHING = automatonOf(anyNumberOf(ANY), new Work());

function mapOf(schema: Schema, keyword: string, path: readonly PropertyKey[]): Schema {
  const value = schema[keyword];
  if (value === undefined) return {};
  if (!isMap(value)) throw new GrammarError('must be an object', [...path, keyword]);
  return value;
}

function namesOf(schema: Schema, path: readonly PropertyKey[]): string[] {
  const value = schema['required'];
  if (value === undefined) return [];
  if (!Array.isArray(value) || !value.every((name) => typeof name === 'string'))
    throw new GrammarError('must be a list of names', [...path, 'required']);
  return value;
}
