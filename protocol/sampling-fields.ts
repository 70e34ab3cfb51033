/** Request fields that say how tokens are chosen; chat completions, text completions and responses share them. */
import { z } from 'zod';
import type { ApiError } from './api-error.ts';
import {
  MAX_LOGIT_BIAS,
  MAX_STOP_CHARACTERS,
  MAX_STOP_SEQUENCES,
  MAX_STOP_TOKENS,
  MAX_VOCABULARY,
} from './limits.ts';

const stop = z.union([
  z.string().min(1).max(MAX_STOP_CHARACTERS),
  z.array(z.string().min(1).max(MAX_STOP_CHARACTERS)).max(MAX_STOP_SEQUENCES),
]);

const TOKEN_ID = /^(?:0|[1-9][0-9]*)$/;
const MAX_BIAS = 100;

const isMap = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

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

/** `null` means "not given", as in OpenAI's schema. */
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
