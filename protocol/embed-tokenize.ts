/**
 * Requests that generate nothing: `POST /v1/embeddings` of OpenAI's API, which pools the hidden states of a
 * model with its adapters into one vector per text; `POST /tokenize` and `POST /detokenize`, as in vLLM.
 */
import { z } from 'zod';
import { type ApiError, err, type Result, ok } from './api-error.ts';
import { MAX_CLIENT_KEY, MAX_EMBEDDING_INPUTS, MAX_USER_CHARACTERS, MAX_MESSAGES } from './limits.ts';
import { isMap, parseRequest, type Parsed, type ParseOptions, asFields } from './parse-body.ts';
import { ChatMessage, parseChatCompletion, type ChatCompletionRequest } from './completion.ts';

const isTokenId = (id: unknown): id is number => Number.isSafeInteger(id) && (id as number) >= 0;

/** Not `z.array`, which would take seconds to list the errors of half a million items. */
export const inputs = z
  .custom<string | string[] | number[] | number[][]>(
    (value) =>
      typeof value === 'string' ||
      (Array.isArray(value) &&
        (value.every((item) => typeof item === 'string') ||
          value.every(isTokenId) ||
          value.every((item) => Array.isArray(item) && item.every(isTokenId)))),
    'must be a string, a list of strings, token ids, or lists of token ids',
  )
  .superRefine((value, context) => {
    const given = embeddingInputs(value);
    const complain = (message: string, path: number[] = []) =>
      context.addIssue({ code: 'custom', message, path, input: value });
    if (given.length === 0) return complain('must not be empty');
    if (given.length > MAX_EMBEDDING_INPUTS)
      return complain(`has ${given.length} inputs; at most ${MAX_EMBEDDING_INPUTS} are allowed`);
    const empty = given.findIndex(({ length }) => length === 0);
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
  input: inputs,
  encoding_format: z.enum(['float', 'base64']).nullish(),
  /** Only the base's own size is accepted: its vectors cannot be shortened. */
  dimensions: z.int().positive().nullish(),
  /** graft's extension: how to pool the tokens' hidden states; default `mean`. */
  pooling: z.enum(['mean', 'last']).nullish(),
  /** As in vLLM: normalize to length 1; default true. */
  normalize: z.boolean().nullish(),
  user: z.string().max(MAX_USER_CHARACTERS).nullish(),
  safety_identifier: z.string().max(MAX_CLIENT_KEY).nullish(),
});
export type EmbeddingRequest = z.infer<typeof EmbeddingRequest>;

/** @returns one item per vector. */
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

export const EmbeddingList = z
  .object({
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
  })
  .meta({ id: 'EmbeddingList' });
export type EmbeddingList = z.infer<typeof EmbeddingList>;

const common = {
  /** A base or a name, meaning the tokenizer of its base. Optional if an edge has one base. */
  model: z.string().min(1).max(512).nullish(),
};

export const TokenizeRequest = z
  .strictObject({
    ...common,
    /** A raw text, in which control strings become their tokens; or `messages`. */
    prompt: z.string().nullish(),
    /** A conversation, rendered with the base's chat template. */
    messages: z.array(ChatMessage).min(1).max(MAX_MESSAGES).nullish(),
    /** Whether to prepend the tokens that start every raw prompt; default true. */
    add_special_tokens: z.boolean().nullish(),
    /** Whether to return the tokens' texts too. */
    return_token_strs: z.boolean().nullish(),
  })
  .meta({ id: 'TokenizeRequest' });
export type TokenizeRequest = z.infer<typeof TokenizeRequest> &
  Partial<Omit<ChatCompletionRequest, 'model' | 'messages'>>;

export const TokenizeAnswer = z
  .object({
    count: z.int(),
    /** The base's context, tokens. */
    max_model_len: z.int(),
    tokens: z.array(z.int()),
    token_strs: z.array(z.string()).nullable(),
  })
  .meta({ id: 'TokenizeAnswer' });
export type TokenizeAnswer = z.infer<typeof TokenizeAnswer>;

export const DetokenizeRequest = z
  .strictObject({
    ...common,
    tokens: z
      .custom<number[]>(Array.isArray, 'must be a list of token ids')
      .superRefine((ids, context) => {
        const at = ids.findIndex((id) => !Number.isSafeInteger(id) || id < 0);
        if (at !== -1) context.addIssue({ code: 'custom', message: 'is not a token id', path: [at] });
      })
      .meta({ type: 'array', items: { type: 'integer', minimum: 0 } }),
  })
  .meta({ id: 'DetokenizeRequest' });
export type DetokenizeRequest = z.infer<typeof DetokenizeRequest>;

export const DetokenizeAnswer = z.object({ prompt: z.string() }).meta({ id: 'DetokenizeAnswer' });
export type DetokenizeAnswer = z.infer<typeof DetokenizeAnswer>;

const OWN = ['model', 'prompt', 'add_special_tokens', 'return_token_strs'] as const;

/**
 * A conversation accepts every field of a chat completion that affects its prompt.
 * @param body parsed JSON.
 */
export function parseTokenize(
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<TokenizeRequest>, ApiError> {
  const fields = asFields(body);
  if (!fields.ok) return fields;
  const given = fields.value;
  if ((given['prompt'] == null) === (given['messages'] == null)) {
    const message = "Give either 'prompt' or 'messages'.";
    return err({ code: 'invalid_request', message, param: given['prompt'] == null ? 'prompt' : 'messages' });
  }
  if (given['messages'] == null) return parseRequest(TokenizeRequest, body, options);
  const chatFields = Object.entries(given).filter(([name]) => !OWN.some((own) => own === name));
  const chat = parseChatCompletion({ ...Object.fromEntries(chatFields), model: 'base' }, options);
  if (!chat.ok) return chat;
  const own = parseRequest(TokenizeRequest, pick(given, OWN), options);
  if (!own.ok) return own;
  return ok({
    request: { ...chat.value.request, ...own.value.request },
    ignored: [...chat.value.ignored, ...own.value.ignored],
  });
}

const pick = (from: Record<string, unknown>, names: readonly string[]): Record<string, unknown> =>
  Object.fromEntries(names.filter((name) => name in from).map((name) => [name, from[name]]));

/** @param body parsed JSON. */
export const parseDetokenize = (
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<DetokenizeRequest>, ApiError> => parseRequest(DetokenizeRequest, body, options);
