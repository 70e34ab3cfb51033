/** Keywords of JSON Schema (2020-12 and, where clients still write them, draft 7) by what they speak of. */

import { GrammarError } from './ebnf.ts';

export type Schema = Record<string, unknown>;

/** Say nothing about what is valid. */
export const ANNOTATIONS: ReadonlySet<string> = new Set([
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
export const IDLE: ReadonlyMap<string, unknown> = new Map<string, unknown>([
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
