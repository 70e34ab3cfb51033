/** How an answer is made, where a request says so: how tokens are chosen, and what they may come to: JSON, JSON by a schema, a regular expression, a choice, a grammar. */
import { z } from 'zod';
import type { ApiError } from './api-error.ts';
import {
  MAX_LOGIT_BIAS,
  MAX_STOP_CHARACTERS,
  MAX_STOP_SEQUENCES,
  MAX_STOP_TOKENS,
  MAX_VOCABULARY,
} from './limits.ts';
import { isMap } from './parse-body.ts';

const stop = z.union([
  z.string().min(1).max(MAX_STOP_CHARACTERS),
  z.array(z.string().min(1).max(MAX_STOP_CHARACTERS)).max(MAX_STOP_SEQUENCES),
]);

const TOKEN_ID = /^(?:0|[1-9][0-9]*)$/;
const MAX_BIAS = 100;

/** Token ids in decimal -> what is added to their logits. Looked at entry by entry, so that errors name the key. */
const logitBias = z
  .custom<Record<string, number>>(isMap, 'must be an object of token ids')
  .superRefine((map, context) => {
    const complain = (message: string, path: string[]) =>
      context.addIssue({ code: 'custom', message, path, input: map });
    const entries = Object.entries(map);
    if (entries.length > MAX_LOGIT_BIAS)
      return complain(`has ${entries.length} entries; at most ${MAX_LOGIT_BIAS} are allowed`, []);
    for (const [key, bias] of entries) {
      if (!TOKEN_ID.test(key) || Number(key) >= MAX_VOCABULARY) return complain('is no token id', [key]);
      // `typeof` and both bounds: what comes from JSON may be anything, and 1e309 is Infinity.
      if (typeof bias !== 'number' || !(bias >= -MAX_BIAS && bias <= MAX_BIAS))
        return complain(`must be a number between -${MAX_BIAS} and ${MAX_BIAS}`, [key]);
    }
  });

/** Chat completions, text completions and responses share them. `null` means "not given", as in OpenAI's schema. */
export const samplingFields = {
  temperature: z.number().min(0).max(2).nullish(),
  /** 0 leaves the likeliest token alone. */
  top_p: z.number().min(0).max(1).nullish(),
  /** 0 and -1 mean "off", as in vLLM. */
  top_k: z.int().min(-1).max(1_000_000).nullish(),
  /** Least probability, relative to the likeliest token's, after temperature. */
  min_p: z.number().min(0).max(1).nullish(),
  /** Per occurrence in what was generated. */
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  /** Once for what was generated at all. */
  presence_penalty: z.number().min(-2).max(2).nullish(),
  /** Divides positive and multiplies negative logits of tokens in prompt and answer; 1 = off, as in vLLM. */
  repetition_penalty: z.number().gt(0).max(2).nullish(),
  logit_bias: logitBias.nullish(),
  seed: z.int().nullish(),
  stop: stop.nullish(),
  ignore_eos: z.boolean().nullish(),
  /** Tokens that end the answer; they are no part of its text. These and the next ones are vLLM's. */
  stop_token_ids: z
    .array(
      z
        .int()
        .min(0)
        .max(MAX_VOCABULARY - 1),
    )
    .max(MAX_STOP_TOKENS)
    .nullish(),
  /** Nothing ends the answer before it has so many tokens. */
  min_tokens: z.int().min(0).nullish(),
  /** Whether control tokens are left out of the text; true unless given. */
  skip_special_tokens: z.boolean().nullish(),
  /** Whether the text has what ended it. */
  include_stop_str_in_output: z.boolean().nullish(),
};

/** What all three kinds of request have of these. */
export type SamplingFields = z.infer<z.ZodObject<typeof samplingFields>>;

/** @param limit the request's limit of tokens, under the name that its API has for it. */
export function refuseLimits(
  { min_tokens: least }: SamplingFields,
  limit: { name: string; value: number | null | undefined },
): ApiError | null {
  if (least == null || limit.value == null || least <= limit.value) return null;
  const message = `Invalid value for 'min_tokens': it must not be above '${limit.name}' (${limit.value}).`;
  return { code: 'invalid_request', message, param: 'min_tokens' };
}

/** A JSON Schema, as it is written in the body, bytes. What a hundred nested properties take, ten times. */
export const MAX_SCHEMA_BYTES = 65_536;
export const MAX_GUIDED_CHOICES = 1_000;
/** Of all choices of a request, UTF-8: as a schema that lists them. */
export const MAX_GUIDED_CHOICES_BYTES = 65_536;
/** A regular expression, one of the choices. */
export const MAX_GUIDED_CHARACTERS = 2_048;
export const MAX_GRAMMAR_BYTES = 16_384;
/** OpenAI's limit of the name of a format. */
const MAX_FORMAT_NAME = 64;

const bytesOf = (value: unknown): number => new TextEncoder().encode(JSON.stringify(value)).length;

/** Looked at as a whole: what its keywords mean, the origin says when it makes a grammar of it. */
export const JsonSchema = z
  .custom<Record<string, unknown>>(isMap, 'must be a JSON Schema, an object')
  .refine(
    (schema) => bytesOf(schema) <= MAX_SCHEMA_BYTES,
    `must not be larger than ${MAX_SCHEMA_BYTES} bytes`,
  )
  .meta({ type: 'object', additionalProperties: {} });

const formatFields = {
  name: z.string().max(MAX_FORMAT_NAME).optional(),
  description: z.string().nullish(),
  schema: JsonSchema.optional(),
  strict: z.boolean().nullish(),
};

const plainFormats = [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
] as const;

/** Chat and text completions'. */
export const ResponseFormat = z.discriminatedUnion('type', [
  ...plainFormats,
  z.strictObject({ type: z.literal('json_schema'), json_schema: z.strictObject(formatFields) }),
]);
export type ResponseFormat = z.infer<typeof ResponseFormat>;

/** Responses': `text.format`. */
export const TextFormat = z.discriminatedUnion('type', [
  ...plainFormats,
  z.strictObject({ type: z.literal('json_schema'), ...formatFields }),
]);
export type TextFormat = z.infer<typeof TextFormat>;

/** vLLM takes a schema as text, too. */
const jsonOrText = z.union([JsonSchema, z.string().max(MAX_SCHEMA_BYTES)], 'must be a JSON Schema');
const regex = z.string().min(1).max(MAX_GUIDED_CHARACTERS);
const choice = z
  .array(z.string().min(1).max(MAX_GUIDED_CHARACTERS))
  .min(1)
  .max(MAX_GUIDED_CHOICES)
  .refine(
    (texts) => new TextEncoder().encode(texts.join('')).length <= MAX_GUIDED_CHOICES_BYTES,
    `must not have more than ${MAX_GUIDED_CHOICES_BYTES} bytes in all its texts; send fewer or shorter ones`,
  );
const grammar = z.string().min(1).max(MAX_GRAMMAR_BYTES);

/** vLLM's names, today's and those of its versions before 0.12. */
export const structuredFields = {
  structured_outputs: z
    .strictObject({
      json: jsonOrText.nullish(),
      json_object: z.boolean().nullish(),
      regex: regex.nullish(),
      choice: choice.nullish(),
      grammar: grammar.nullish(),
    })
    .nullish(),
  guided_json: jsonOrText.nullish(),
  guided_regex: regex.nullish(),
  guided_choice: choice.nullish(),
  guided_grammar: grammar.nullish(),
};

export type Constraint =
  | { readonly kind: 'json_object' }
  /** `schema`: an object, or its JSON as text. */
  | { readonly kind: 'json_schema'; readonly schema: unknown }
  | { readonly kind: 'regex'; readonly pattern: string }
  | { readonly kind: 'choice'; readonly choices: readonly string[] }
  /** In XGrammar's EBNF, its first rule `root`. */
  | { readonly kind: 'grammar'; readonly grammar: string };

/** A constraint, and where it stands in the body. */
export interface PlacedConstraint {
  readonly constraint: Constraint;
  readonly path: readonly string[];
}

type StructuredFields = z.infer<z.ZodObject<typeof structuredFields>> & {
  response_format?: ResponseFormat | null | undefined;
  text?: { format?: TextFormat | null | undefined } | null | undefined;
};

/** Every constraint of a request, in the order in which they are looked for. */
export function constraintsOf(request: StructuredFields): PlacedConstraint[] {
  const { response_format: format, text, structured_outputs: outputs } = request;
  const found: (PlacedConstraint | null)[] = [
    ofFormat(format, ['response_format'], format?.type === 'json_schema' ? ['json_schema'] : []),
    ofFormat(text?.format, ['text', 'format'], []),
    ...guided(outputs ?? {}, (name) => ['structured_outputs', name]),
    outputs?.json_object === true
      ? { constraint: { kind: 'json_object' }, path: ['structured_outputs', 'json_object'] }
      : null,
    ...guided(
      {
        json: request.guided_json,
        regex: request.guided_regex,
        choice: request.guided_choice,
        grammar: request.guided_grammar,
      },
      (name) => [`guided_${name}`],
    ),
  ];
  return found.filter((one) => one !== null);
}

function ofFormat(
  format: ResponseFormat | TextFormat | null | undefined,
  path: string[],
  inside: string[],
): PlacedConstraint | null {
  if (format == null || format.type === 'text') return null;
  if (format.type === 'json_object') return { constraint: { kind: 'json_object' }, path };
  const { schema } = 'json_schema' in format ? format.json_schema : format;
  const place = [...path, ...inside, 'schema'];
  return schema === undefined
    ? { constraint: { kind: 'json_object' }, path: place }
    : { constraint: { kind: 'json_schema', schema }, path: place };
}

interface Guided {
  json?: unknown;
  regex?: string | null | undefined;
  choice?: string[] | null | undefined;
  grammar?: string | null | undefined;
}

function guided(fields: Guided, pathOf: (name: string) => string[]): PlacedConstraint[] {
  const { json, regex: pattern, choice: choices, grammar: text } = fields;
  const found: [string, Constraint | null][] = [
    ['json', json == null ? null : { kind: 'json_schema', schema: json }],
    ['regex', pattern == null ? null : { kind: 'regex', pattern }],
    ['choice', choices == null ? null : { kind: 'choice', choices }],
    ['grammar', text == null ? null : { kind: 'grammar', grammar: text }],
  ];
  return found.flatMap(([name, constraint]) =>
    constraint === null ? [] : [{ constraint, path: pathOf(name) }],
  );
}

/** For a schema of requests: an answer is held to one thing. */
export function refuseSecondConstraint(request: StructuredFields, context: z.RefinementCtx): void {
  const [first, second] = constraintsOf(request);
  if (first === undefined || second === undefined) return;
  context.addIssue({
    code: 'custom',
    message: `an answer is held to one constraint, and ${first.path.join('.')} is one already`,
    path: [...second.path],
  });
}
