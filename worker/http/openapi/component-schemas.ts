import { z } from 'zod';
import { ANSWERS } from './answers.ts';
import { BODIES } from './bodies.ts';

export type JsonSchema = Record<string, unknown>;

const how = {
  unrepresentable: 'any',
  /** zod says a date's format twice, the second time in half a kilobyte of pattern. */
  override({ jsonSchema }) {
    if (jsonSchema.format !== undefined) delete jsonSchema.pattern;
  },
} satisfies z.core.ToJSONSchemaParams;

const uri = (id: string): string => `#/components/schemas/${id}`;

/**
 * Checks that JSON Schema has no words for (a name's syntax, weights that sum to 1) are left out: what the schema refuses
 * the route refuses, and the route refuses more.
 */
function schemasOf(named: Record<string, z.ZodType>, io: 'input' | 'output'): Record<string, JsonSchema> {
  const registry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(named)) registry.add(schema, { id });
  const { schemas } = z.toJSONSchema(registry, { uri, io, ...how });
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $schema: _, $id: __, ...schema }]) => [id, schema]),
  );
}

/** `components.schemas` of the document. */
export const componentSchemas = (): Record<string, JsonSchema> => ({
  ...schemasOf(BODIES, 'input'),
  ...schemasOf(ANSWERS, 'output'),
});

/** One schema as it is sent, in place. */
export function inlineSchema(schema: z.ZodType): JsonSchema {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io: 'input', ...how });
  return json;
}
