/** OpenAI's published schemas, cut out by test/fixtures/openai-schema/extract.mjs. */
import { readFileSync } from 'node:fs';
import { Ajv2020, type AnySchemaObject } from 'ajv/dist/2020.js';

const file = new URL('../fixtures/openai-schema/openai.json', import.meta.url);
const published = JSON.parse(readFileSync(file, 'utf8')) as { $defs: Record<string, AnySchemaObject> };

/** `strict: false`: the specification uses keywords beside `$ref`; `unixtime` is no format that ajv knows. */
const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });

/** Names of the fields of ours that the specification does not have, by schema. Everything else is in headers. */
export const OWN_FIELDS: Readonly<Record<string, readonly string[]>> = {
  // OpenAI sends `store`, though its specification does not say so; Open Responses (openresponses.org) has all three.
  Response: ['frequency_penalty', 'presence_penalty', 'store'],
  // vLLM's: what an adapter is on top of.
  Model: ['parent', 'root'],
  // As in OpenAI's other lists.
  ListModelsResponse: ['after', 'has_more'],
};

/**
 * Takes out what OpenAI sends against its own schema, as its examples show, and clients therefore expect: no log-
 * probability for the first token of an echoed prompt, no reason in a chunk of text before the last, and `usage: null`
 * in a response that is not complete.
 */
export function withoutKnownExceptions<T>(value: T): T {
  const copy = structuredClone(value) as {
    object?: string;
    usage?: unknown;
    response?: { usage?: unknown };
    choices?: {
      finish_reason?: string | null;
      logprobs?: { token_logprobs?: (number | null)[]; top_logprobs?: (object | null)[] } | null;
    }[];
  };
  if (copy.object === 'response' && copy.usage === null) delete copy.usage;
  if (copy.response?.usage === null) delete copy.response.usage;
  if (copy.object !== 'text_completion') return copy as T;
  for (const choice of copy.choices ?? []) {
    choice.finish_reason ??= 'stop';
    const { token_logprobs: scores, top_logprobs: top } = choice.logprobs ?? {};
    if (scores?.[0] === null) scores[0] = 0;
    if (top?.[0] === null) top[0] = {};
  }
  return copy as T;
}

/**
 * @returns what is wrong with `value` as the schema of that name, and fields that neither the schema nor `OWN_FIELDS`
 * has; empty when all is well.
 */
export function problems(name: string, value: unknown): string[] {
  const key = `strict-${name}`;
  const own = Object.fromEntries((OWN_FIELDS[name] ?? []).map((field) => [field, {}]));
  const validate =
    ajv.getSchema(key) ??
    ajv.compile({
      $id: key,
      $defs: published.$defs,
      allOf: [{ $ref: `#/$defs/${name}` }],
      properties: own,
      unevaluatedProperties: false,
    });
  if (validate(withoutKnownExceptions(value)) === true) return [];
  return (validate.errors ?? []).map(
    ({ instancePath, message, params }) => `${name}${instancePath} ${message} ${JSON.stringify(params)}`,
  );
}
