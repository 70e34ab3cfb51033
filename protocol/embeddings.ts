/** `POST /v1/embeddings` of OpenAI's API: the hidden states of a model with its adapters, as one vector a text. */
import { z } from 'zod';
import { type ApiError, err, type Result } from './api-error.ts';
import { MAX_CLIENT_KEY, MAX_EMBEDDING_INPUTS, MAX_USER_CHARACTERS } from './limits.ts';
import { isMap, parseRequest, type Parsed, type ParseOptions } from './parse-body.ts';

const isTokenId = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) >= 0;

/** Not `z.array`, which takes seconds to list what is wrong with each of half a million. */
const input = z
  .custom<string | string[] | number[] | number[][]>(
    (value) =>
      typeof value === 'string' ||
      (Array.isArray(value) &&
        (value.every((item) => typeof item === 'string') ||
          value.every(isTokenId) ||
          value.every((item) => Array.isArray(item) && item.every(isTokenId)))),
    'must be a text, texts, token ids, or lists of token ids',
  )
  .superRefine((value, context) => {
    const inputs = embeddingInputs(value);
    const complain = (message: string, path: number[] = []) =>
      context.addIssue({ code: 'custom', message, path, input: value });
    if (inputs.length === 0) return complain('must not be empty');
    if (inputs.length > MAX_EMBEDDING_INPUTS)
      return complain(`has ${inputs.length} inputs; at most ${MAX_EMBEDDING_INPUTS} are allowed`);
    const empty = inputs.findIndex(({ length }) => length === 0);
    if (empty !== -1) complain('must not be empty', Array.isArray(value) ? [empty] : []);
  })
  .meta({
    anyOf: [
      { type: 'string' },
      { type: 'array', items: { type: 'string' }, minItems: 1, maxItems: MAX_EMBEDDING_INPUTS },
      { type: 'array', items: { type: 'integer', minimum: 0 }, minItems: 1 },
      {
        type: 'array',
        items: { type: 'array', items: { type: 'integer', minimum: 0 }, minItems: 1 },
        minItems: 1,
        maxItems: MAX_EMBEDDING_INPUTS,
      },
    ],
  });

export const EmbeddingRequest = z.strictObject({
  model: z.string().min(1).max(512),
  /** Each text or list of token ids becomes one vector. */
  input,
  encoding_format: z.enum(['float', 'base64']).nullish(),
  /** Only the base's own number is taken: its vectors cannot be cut. */
  dimensions: z.int().positive().nullish(),
  /** Ours: what becomes of the tokens' hidden states; `mean` unless given. */
  pooling: z.enum(['mean', 'last']).nullish(),
  /** As vLLM's: to length 1; true unless given. */
  normalize: z.boolean().nullish(),
  user: z.string().max(MAX_USER_CHARACTERS).nullish(),
  safety_identifier: z.string().max(MAX_CLIENT_KEY).nullish(),
});
export type EmbeddingRequest = z.infer<typeof EmbeddingRequest>;

/** @returns one item for each vector. */
export function embeddingInputs(input: EmbeddingRequest['input']): (string | number[])[] {
  if (typeof input === 'string') return [input];
  return input.every((item) => typeof item === 'number') ? (input.length === 0 ? [] : [input]) : input;
}

/** @param body parsed JSON. */
export function parseEmbedding(
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<EmbeddingRequest>, ApiError> {
  if (isMap(body) && !('input' in body))
    return err({ code: 'invalid_request', message: "Missing field 'input'.", param: 'input' });
  return parseRequest(EmbeddingRequest, body, options);
}

export const EmbeddingList = z.object({
  object: z.literal('list'),
  data: z.array(
    z.object({
      object: z.literal('embedding'),
      index: z.int(),
      /** Numbers, or the base64 of their little-endian float32. */
      embedding: z.union([z.array(z.number()), z.string()]),
    }),
  ),
  model: z.string(),
  usage: z.object({ prompt_tokens: z.int(), total_tokens: z.int() }),
});
export type EmbeddingList = z.infer<typeof EmbeddingList>;
