import { isMap } from '../../protocol/index.ts';
import type { Schema } from './schema-keywords.ts';

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
