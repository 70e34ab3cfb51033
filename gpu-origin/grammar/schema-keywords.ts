/** Keywords of JSON Schema (2020-12 and, where clients still write them, draft 7) by what they speak of. */
import { isMap } from '../../protocol/index.ts';
import { GrammarError } from './ebnf.ts';

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
    throw new GrammarError("must be a place in the schema itself, such as '#/$defs/name'", path);
  let target = root;
  for (const raw of reference.split('/').slice(1)) {
    const key = decoded(raw).replaceAll('~1', '/').replaceAll('~0', '~');
    const inside: unknown = Array.isArray(target)
      ? (target as unknown[])[Number(key)]
      : isMap(target) && Object.hasOwn(target, key)
        ? target[key]
        : undefined;
    if (inside === undefined) throw new GrammarError('leads nowhere', path);
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

/** @returns whether no value fits two of the schemas, so far as types and constants show it. */
export function areDisjoint(schemas: readonly unknown[], resolve: (reference: unknown) => unknown): boolean {
  const branches = schemas.map((schema) =>
    isMap(schema) && '$ref' in schema ? resolve(schema['$ref']) : schema,
  );
  return branches.every((one, at) => branches.slice(at + 1).every((other) => differ(one, other)));
}

function differ(one: unknown, other: unknown): boolean {
  if (!isMap(one) || !isMap(other)) return false;
  const [values, others] = [valuesOf(one), valuesOf(other)];
  if (values !== null && others !== null) return !values.some((value) => others.includes(value));
  const [types, otherTypes] = [typesIn(one), typesIn(other)];
  if (types === null || otherTypes === null) return false;
  if (!types.some((type) => otherTypes.includes(type))) return true;
  return types.join() === 'object' && otherTypes.join() === 'object' && differByProperty(one, other);
}

/** A property that both need and that has other constants in each, as in a discriminated union. */
function differByProperty(one: Schema, other: Schema): boolean {
  const [properties, others] = [one['properties'], other['properties']];
  if (!isMap(properties) || !isMap(others)) return false;
  return Object.entries(properties).some(([name, property]) => {
    const counterpart = Object.hasOwn(others, name) ? others[name] : undefined;
    if (!isMap(property) || !isMap(counterpart) || !needs(one, name) || !needs(other, name)) return false;
    const [values, otherValues] = [valuesOf(property), valuesOf(counterpart)];
    return values !== null && otherValues !== null && !values.some((value) => otherValues.includes(value));
  });
}

const needs = (schema: Schema, name: string): boolean =>
  Array.isArray(schema['required']) && schema['required'].includes(name);

/** Constants as JSON. */
function valuesOf(schema: Schema): string[] | null {
  if ('const' in schema) return [JSON.stringify(schema['const'])];
  return Array.isArray(schema['enum']) ? schema['enum'].map((value) => JSON.stringify(value)) : null;
}

/** `integer` counts as `number`, which shares its values. */
function typesIn(schema: Schema): string[] | null {
  const values = valuesOf(schema)?.map((value) => JSON.parse(value) as unknown);
  if (values !== undefined) return [...new Set(values.map(typeOf))];
  const { type } = schema;
  const names: unknown[] = Array.isArray(type) ? type : [type];
  if (!names.every((name) => typeof name === 'string')) return null;
  return [...new Set(names.map((name) => (name === 'integer' ? 'number' : name)))];
}

const typeOf = (value: unknown): string =>
  value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
