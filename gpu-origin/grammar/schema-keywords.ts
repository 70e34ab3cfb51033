/** Keywords of JSON Schema (2020-12 and, where clients still write them, draft 7) by what they speak of. */
import { isMap } from '../../protocol/parse-body.ts';
import { GrammarError, type Work } from './ebnf.ts';

export type Schema = Record<string, unknown>;

/** Say nothing about what is valid. */
const ANNOTATIONS: ReadonlySet<string> = new Set([
  ...['title', 'description', 'default', 'example', 'examples', 'deprecated', 'readOnly', 'writeOnly'],
  ...['$comment', '$schema', '$id', '$defs', 'definitions', 'discriminator'],
]);

/** Keywords of one type of value. */
export const KEYWORDS = {
  object: ['properties', 'required', 'additionalProperties', 'minProperties', 'maxProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
} as const;

/** Stand for themselves: beside them only annotations are understood. */
export const COMBINING = ['$ref', 'anyOf', 'oneOf', 'allOf'] as const;

/** Ask for nothing with this value. */
const IDLE: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ['uniqueItems', false],
  ['nullable', false],
  ['unevaluatedProperties', false],
  ['unevaluatedItems', false],
]);

export const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const;
export type TypeName = (typeof TYPES)[number];

const KNOWN: ReadonlySet<string> = new Set<string>([
  ...['type', 'enum', 'const'],
  ...COMBINING,
  ...Object.values(KEYWORDS).flat(),
]);

export const isKnown = (keyword: string): boolean => KNOWN.has(keyword);

/** Keywords that say what is valid, in the schema's own order. */
export const assertionsOf = (schema: Schema): string[] =>
  Object.keys(schema).filter(
    (key) =>
      !ANNOTATIONS.has(key) && !key.startsWith('x-') && !(IDLE.has(key) && IDLE.get(key) === schema[key]),
  );

/** Of which types `keywords` speak, where none is named. */
export function typesOf(keywords: readonly string[]): TypeName[] | null {
  const types = (Object.keys(KEYWORDS) as (keyof typeof KEYWORDS)[]).filter((type) =>
    keywords.some((keyword) => (KEYWORDS[type] as readonly string[]).includes(keyword)),
  );
  return types.length === 0 ? null : types;
}

/** @returns null when it is not there. */
export function count(
  schema: Schema,
  keyword: string,
  path: readonly PropertyKey[],
  most: number,
): number | null {
  const value = schema[keyword];
  if (value === undefined) return null;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > most)
    throw new GrammarError(`must be a whole number from 0 to ${most}`, [...path, keyword]);
  return value;
}

/** Follows `#/$defs/name` and other places inside the schema. @throws GrammarError */
export function resolveReference(root: unknown, reference: unknown, path: readonly PropertyKey[]): unknown {
  if (typeof reference !== 'string' || !(reference === '#' || reference.startsWith('#/')))
    throw new GrammarError("must point into the schema itself, such as '#/$defs/name'", path);
  let target = root;
  for (const raw of reference.split('/').slice(1)) {
    const key = decoded(raw).replaceAll('~1', '/').replaceAll('~0', '~');
    const inside: unknown = Array.isArray(target)
      ? (target as unknown[])[Number(key)]
      : isMap(target) && Object.hasOwn(target, key)
        ? target[key]
        : undefined;
    if (inside === undefined) throw new GrammarError('points to nothing', path);
    target = inside;
  }
  return target;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * @returns whether no value fits two of the schemas, so far as types and constants show it.
 * @throws GrammarError when there is too much to compare.
 */
export function areDisjoint(
  schemas: readonly unknown[],
  resolve: (reference: unknown) => unknown,
  work: Work,
): boolean {
  const branches = schemas.map((schema) =>
    isMap(schema) && '$ref' in schema ? resolve(schema['$ref']) : schema,
  );
  if (branches.length < 2) return true;
  const constants = new Set<string>();
  const typesOfConstants = new Set<string>();
  /** Of each schema without constants; all those of nothing but objects count as one. */
  const types: string[] = [];
  const objects: Schema[] = [];
  for (const schema of branches) {
    if (!isMap(schema)) return false;
    const values = valuesOf(schema, work);
    if (values !== null) {
      for (const value of values.keys()) if (constants.has(value)) return false;
      for (const [value, type] of values) {
        constants.add(value);
        typesOfConstants.add(type);
      }
      continue;
    }
    const own = typesIn(schema);
    if (own === null) return false;
    if (own.size === 1 && own.has('object')) objects.push(schema);
    else types.push(...own);
  }
  if (objects.length > 0) types.push('object');
  if (new Set(types).size < types.length || types.some((type) => typesOfConstants.has(type))) return false;
  return differByProperty(objects, work);
}

/** Any two need a property that has other constants in each, as in a discriminated union: mostly one for all of them. */
function differByProperty(objects: readonly Schema[], work: Work): boolean {
  const all = objects.map((schema) => neededConstants(schema, work));
  const tellsAllApart = (name: string): boolean => {
    const seen = new Set<string>();
    return all.every((constants) => {
      const values = constants.get(name);
      if (values === undefined) return false;
      work.spend(1 + values.length);
      if (values.some((value) => seen.has(value))) return false;
      for (const value of values) seen.add(value);
      return true;
    });
  };
  if ([...(all[0]?.keys() ?? [])].some(tellsAllApart)) return true;
  const differ = (one: Constants, other: Constants): boolean =>
    [...one].some(([name, values]) => {
      const others = other.get(name);
      work.spend(1 + values.length + (others?.length ?? 0));
      if (others === undefined) return false;
      const seen = new Set(others);
      return !values.some((value) => seen.has(value));
    });
  for (let at = 0; at < all.length; at += 1)
    for (let beside = at + 1; beside < all.length; beside += 1)
      if (!differ(all[at]!, all[beside]!)) return false;
  return true;
}

/** By property. */
type Constants = ReadonlyMap<string, readonly string[]>;

function neededConstants({ properties, required }: Schema, work: Work): Constants {
  const found = new Map<string, readonly string[]>();
  if (!isMap(properties) || !Array.isArray(required)) return found;
  work.spend(1 + required.length);
  for (const name of new Set<unknown>(required)) {
    if (typeof name !== 'string' || !Object.hasOwn(properties, name)) continue;
    const property = properties[name];
    const values = isMap(property) ? valuesOf(property, work) : null;
    if (values !== null) found.set(name, [...values.keys()]);
  }
  return found;
}

/** Constants as JSON, each with its type. */
function valuesOf(schema: Schema, work: Work): ReadonlyMap<string, string> | null {
  const values: unknown = 'const' in schema ? [schema['const']] : schema['enum'];
  if (!Array.isArray(values)) return null;
  work.spend(1 + values.length);
  return new Map(values.map((value: unknown) => [JSON.stringify(value), typeOf(value)]));
}

/** `integer` counts as `number`, which shares its values. */
function typesIn({ type }: Schema): ReadonlySet<string> | null {
  const names: unknown[] = Array.isArray(type) ? type : [type];
  if (!names.every((name) => typeof name === 'string')) return null;
  return new Set(names.map((name) => (name === 'integer' ? 'number' : name)));
}

const typeOf = (value: unknown): string =>
  value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
