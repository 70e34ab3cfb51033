/** `POST /tokenize` and `POST /detokenize`, as vLLM has them. */
import { z } from 'zod';
import type { ApiError } from './api-error.ts';
import { ChatMessage } from './completion.ts';
import { MAX_MESSAGES } from './limits.ts';
import { isMap, parseBody, refuseCrowd } from './parse-body.ts';
import { err, type Result } from './result.ts';

const common = {
  /** Names nothing: the tokenizer is the base's. */
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
export type TokenizeRequest = z.infer<typeof TokenizeRequest>;

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

/** @param body parsed JSON. */
export function parseTokenize(body: unknown): Result<TokenizeRequest, ApiError> {
  const crowd = isMap(body) ? refuseCrowd(body['messages'], 'messages') : null;
  if (crowd !== null) return err(crowd);
  const parsed = parseBody(TokenizeRequest, body, new Map());
  if (!parsed.ok) return parsed;
  const { prompt, messages } = parsed.value;
  if ((prompt == null) === (messages == null)) {
    const message = "Give 'prompt' or 'messages', one of them.";
    return err({ code: 'invalid_request', message, param: prompt == null ? 'prompt' : 'messages' });
  }
  return parsed;
}

/** @param body parsed JSON. */
export const parseDetokenize = (body: unknown): Result<DetokenizeRequest, ApiError> =>
  parseBody(DetokenizeRequest, body, new Map());
