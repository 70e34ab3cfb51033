/** Objects of JSON Schema: properties in the schema's order, then additional ones where they are allowed. */
import { isMap } from '../../protocol/index.ts';
import { literal } from './alphabet.ts';
import { ANY, anyNumberOf, automatonOf, butNot } from './automaton.ts';
import { automatonRule } from './automaton-rules.ts';
import { atPath, GrammarError, type Rules, Work } from './ebnf.ts';
import { count, type Schema } from './schema-keywords.ts';

type Path = readonly PropertyKey[];
type SchemaRule = (schema: unknown, path: Path, depth: number) => string;

const MAX_PROPERTIES = 500;

export class ObjectRules {
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
  of(schema: Schema, path: Path, depth: number): string {
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
    if (counted !== null) throw new GrammarError("is not understood beside 'properties'", [...path, counted]);
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
    { properties, more, path, depth }: { properties: Schema; more: unknown; path: Path; depth: number },
  ): string {
    const key = literal(`${JSON.stringify(name)}:`);
    if (Object.hasOwn(properties, name))
      return this.#rules.add(
        `${key} ws ${this.#ruleOf(properties[name], [...path, 'properties', name], depth + 1)}`,
      );
    if (more === false)
      throw new GrammarError(`needs '${name}', which the schema does not allow`, [...path, 'required']);
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
    { min, max, path, depth }: { min: number; max: number | null; path: Path; depth: number },
  ): string {
    if (max !== null && min > max)
      throw new GrammarError("is above 'maxProperties'", [...path, 'minProperties']);
    // `properties: {}`, as functions without parameters have it.
    const none = more === false || (more === undefined && 'properties' in schema);
    if (none && min > 0)
      throw new GrammarError('is more than the schema has properties for', [...path, 'minProperties']);
    if (none || max === 0) return this.#rules.add('"{" ws "}"');
    if (min === 0 && max === null && (more === undefined || more === true)) return 'json_object';
    const value =
      more === undefined ? 'json_value' : this.#ruleOf(more, [...path, 'additionalProperties'], depth + 1);
    const member = this.#rules.add(`json_string ":" ws ${value}`);
    // Names that repeat would count as one.
    if (min > 1) throw new GrammarError('is understood up to 1', [...path, 'minProperties']);
    atPath(path, () => this.#rules.times(max ?? 0));
    const others = max === null ? `("," ws ${member})*` : `("," ws ${member}){0,${max - 1}}`;
    return this.#rules.add(
      `"{" ws ${min === 0 ? `(${member} ${others} ws)?` : `${member} ${others} ws`} "}"`,
    );
  }

  /** A member with another name than these. */
  #extra(names: readonly string[], value: string, path: Path): string {
    return atPath([...path, 'properties'], () => {
      const others = butNot(ANYTHING, names, this.#rules.work);
      return this.#rules.add(
        `"\\"" ${automatonRule(others, { rules: this.#rules, inJson: true })} ":" ws ${value}`,
      );
    });
  }
}

const ANYTHING = automatonOf(anyNumberOf(ANY), new Work());

function mapOf(schema: Schema, keyword: string, path: Path): Schema {
  const value = schema[keyword];
  if (value === undefined) return {};
  if (!isMap(value)) throw new GrammarError('must be an object', [...path, keyword]);
  return value;
}

function namesOf(schema: Schema, path: Path): string[] {
  const value = schema['required'];
  if (value === undefined) return [];
  if (!Array.isArray(value) || !value.every((name) => typeof name === 'string'))
    throw new GrammarError('must be a list of names', [...path, 'required']);
  return value;
}
