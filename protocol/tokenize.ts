/** `POST /tokenize` and `POST /detokenize`, as vLLM has them. */
import { z } from 'zod';
import { type ApiError, err, ok, type Result } from './api-error.ts';
import { ChatMessage, parseChatCompletion, type ChatCompletionRequest } from './completion.ts';
import { MAX_MESSAGES } from './limits.ts';
import { asFields, parseRequest, type Parsed, type ParseOptions } from './parse-body.ts';

const common = {
  /** A base or a name: the tokenizer of its base is meant. Where an edge has one base, it names nothing. */
  model: z.string().min(1).max(512).nullish(),
};

export const TokenizeRequest = z.strictObject({
  ...common,
  /** A raw text, in which control strings mean their tokens; or `messages`. */
  prompt: z.string().nullish(),
  /** A conversation, as the base's chat template writes it. */
  messages: z.array(ChatMessage).min(1).max(MAX_MESSAGES).nullish(),
  /** Whether the tokens come first that go before every raw prompt; true unless given. */
  add_special_tokens: z.boolean().nullish(),
  /** Whether the tokens' texts are wanted too. */
  return_token_strs: z.boolean().nullish(),
});
export type TokenizeRequest = z.infer<typeof TokenizeRequest> &
  Partial<Omit<ChatCompletionRequest, 'model' | 'messages'>>;

export const TokenizeAnswer = z.object({
  count: z.int(),
  /** The base's context, tokens. */
  max_model_len: z.int(),
  tokens: z.array(z.int()),
  token_strs: z.array(z.string()).nullable(),
});
export type TokenizeAnswer = z.infer<typeof TokenizeAnswer>;

export const DetokenizeRequest = z.strictObject({
  ...common,
  tokens: z
    .custom<number[]>(Array.isArray, 'must be a list of token ids')
    .superRefine((ids, context) => {
      const at = ids.findIndex((id) => !Number.isSafeInteger(id) || id < 0);
      if (at !== -1) context.addIssue({ code: 'custom', message: 'is no token id', path: [at] });
    })
    .meta({ type: 'array', items: { type: 'integer', minimum: 0 } }),
});
export type DetokenizeRequest = z.infer<typeof DetokenizeRequest>;

export const DetokenizeAnswer = z.object({ prompt: z.string() });
export type DetokenizeAnswer = z.infer<typeof DetokenizeAnswer>;

const OWN = ['model', 'prompt', 'add_special_tokens', 'return_token_strs'] as const;

/**
 * A conversation may bring whatever a chat completion brings that its prompt is made of.
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
    const message = "Give 'prompt' or 'messages', one of them.";
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
