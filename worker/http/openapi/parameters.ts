import type { z } from 'zod';
import { inlineSchema, type JsonSchema } from './component-schemas.ts';

interface PathParameter {
  name: string;
  /** What the route takes, where it says so. */
  pattern: string | null;
}

export interface ParsedPath {
  /** As OpenAPI writes it, `/admin/keys/{id}`. */
  template: string;
  parameters: PathParameter[];
}

/** @param path as the app has it: `:id`, `:index{[0-9]{1,4}}`, and a `*` at the end for a name. */
export function parsePath(path: string): ParsedPath {
  const parameters: PathParameter[] = [];
  const segments = path.split('/').map((segment) => {
    const match = segment === '*' ? ['', 'name'] : /^:(\w+)(?:\{(.+)\})?$/.exec(segment);
    if (match === null) return segment;
    const [, name = '', pattern] = match;
    parameters.push({ name, pattern: pattern === undefined ? null : `^${pattern}$` });
    return `{${name}}`;
  });
  return { template: segments.join('/'), parameters };
}

export const pathParameters = (
  { parameters }: ParsedPath,
  schemas: Record<string, z.ZodType>,
): Record<string, unknown>[] =>
  parameters.map(({ name, pattern }) => {
    const schema = schemas[name];
    const text = { type: 'string', ...(pattern === null ? {} : { pattern }) };
    return { name, in: 'path', required: true, schema: schema === undefined ? text : inlineSchema(schema) };
  });

export function queryParameters(query: z.ZodObject): Record<string, unknown>[] {
  const { properties = {}, required = [] } = inlineSchema(query) as {
    properties?: Record<string, JsonSchema>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    schema: asSent(schema),
  }));
}

export const headerParameters = (headers: Record<string, string>): Record<string, unknown>[] =>
  Object.entries(headers).map(([name, description]) => ({
    name,
    in: 'header',
    required: false,
    description,
    schema: { type: 'string' },
  }));

/** A query has no null: it is how the route says that the parameter was not there. */
function asSent({ default: preset, anyOf, ...schema }: JsonSchema): JsonSchema {
  const choices = (anyOf as JsonSchema[] | undefined)?.filter(({ type }) => type !== 'null');
  return {
    ...schema,
    ...(choices === undefined ? {} : choices.length === 1 ? choices[0] : { anyOf: choices }),
    ...(preset === undefined || preset === null ? {} : { default: preset }),
  };
}
