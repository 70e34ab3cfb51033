/** What is said to vLLM's OpenAI server and what it says, as of 0.32: `vllm/entrypoints/openai`. Only what is used. */
import { z } from 'zod';
import type { ApiError } from '../../../protocol/index.ts';

/** Tokens as `return_tokens_as_token_ids` writes them. */
const TOKEN = /^token_id:(\d+)$/;

const TokenText = z
  .string()
  .regex(TOKEN)
  .transform((text) => Number(TOKEN.exec(text)![1]));

/** Where log-probabilities were asked for; lists of the same length. */
const Logprobs = z.object({
  tokens: z.array(TokenText),
  token_logprobs: z.array(z.number().nullable()),
  /** The likeliest, and the chosen token where it is none of them. */
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()).nullish(),
});
export type VllmLogprobs = z.infer<typeof Logprobs>;

export const tokenOf = (text: string): number => TokenText.parse(text);

/** One event of a stream. */
export const StreamChunk = z.object({
  choices: z.array(
    z.object({
      /** With `return_token_ids`; those that are new. */
      token_ids: z.array(z.int().nonnegative()).nullish(),
      logprobs: Logprobs.nullish(),
      finish_reason: z.string().nullish(),
    }),
  ),
});
export type StreamChunk = z.infer<typeof StreamChunk>;

/** `finish_reason` of an answer that is not whole: vLLM is being stopped, or has failed. */
export const GIVEN_UP: ReadonlySet<string> = new Set(['abort', 'error']);

/** In an error's body, or in a stream whose status said 200. */
export const VllmError = z.object({ error: z.object({ message: z.string(), code: z.unknown().optional() }) });

export const VllmModels = z.object({
  data: z.array(
    z.object({
      id: z.string(),
      /** Path of the base or of the adapter. */
      root: z.string().nullish(),
      /** Of an adapter: the base. */
      parent: z.string().nullish(),
      max_model_len: z.int().positive().nullish(),
    }),
  ),
});

/** The body of `POST /v1/completions`. */
export interface VllmCompletion {
  model: string;
  prompt: readonly number[];
  max_tokens: number;
  [field: string]: unknown;
}

/** Why vLLM did not do what it was asked for. */
export type VllmFailure =
  /** It said so. */
  | { readonly kind: 'refused'; readonly status: number; readonly message: string }
  /** There is nobody, or it went in the middle. */
  | { readonly kind: 'gone'; readonly message: string }
  /** It says nothing any more. */
  | { readonly kind: 'silent'; readonly ms: number }
  /** It says what is not understood. */
  | { readonly kind: 'strange'; readonly message: string };

export const failureText = (failure: VllmFailure): string => {
  switch (failure.kind) {
    case 'refused':
      return `vLLM answered ${failure.status}: ${failure.message}`;
    case 'gone':
      return `vLLM does not answer: ${failure.message}`;
    case 'silent':
      return `vLLM has said nothing for ${Math.round(failure.ms / 1000)} s`;
    case 'strange':
      return `vLLM said what is not understood: ${failure.message}`;
  }
};

/** When to come back after vLLM has gone or its queue was full, ms. */
export const RETRY_MS = 1_000;

/** As the failure of a request. */
export const errorOf = (failure: VllmFailure): ApiError =>
  failure.kind === 'refused' && failure.status === 400
    ? { code: 'invalid_request', message: failureText(failure), param: null }
    : { code: 'origin_unavailable', message: failureText(failure), retryAfterMs: RETRY_MS };
