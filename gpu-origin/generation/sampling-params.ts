import type { ChatCompletionRequest, TextCompletionRequest } from '../../protocol/completion.ts';
import type { SamplingFields } from '../../protocol/request-fields.ts';
import { maxTokensOf, wantsLogprobs, type ResponseRequest } from '../../protocol/responses.ts';

export type GenerationRequest = ChatCompletionRequest | TextCompletionRequest | ResponseRequest;

/** What a request wants done to the logits before a token is chosen. */
export interface LogitAdjustments {
  /** Added to the logits of these tokens. */
  readonly bias: readonly (readonly [id: number, bias: number])[];
  /** Divides positive and multiplies negative logits of every token of prompt and answer; 1 = off. */
  readonly repetition: number;
  /** Subtracted for each time that a token was generated; 0 = off. */
  readonly frequency: number;
  /** Subtracted from every token that was generated at all; 0 = off. */
  readonly presence: number;
  /** Tokens that are not chosen before there are so many; absent = none. */
  readonly later?: { readonly ids: readonly number[]; readonly after: number };
}

/** How the tokens of one answer are chosen and when it ends. Checked and defaulted; no field is optional. */
export interface SamplingParams {
  /** 0 = greedy. */
  readonly temperature: number;
  /** Only the k likeliest tokens; null = all of them. */
  readonly topK: number | null;
  /** Only the smallest set of tokens whose probability reaches this; 1 = all of them. */
  readonly topP: number;
  /** Only tokens that are at least so likely as this times the likeliest; 0 = all of them. */
  readonly minP: number;
  /** What is done to the logits first; null = nothing. */
  readonly adjustments: LogitAdjustments | null;
  /** Makes the draws reproducible; null = draws from the engine's random source. */
  readonly seed: number | null;
  /** Texts that end the answer; they are not part of it unless `includeStop` says so. */
  readonly stop: readonly string[];
  /** Tokens to generate at most; null = as many as fit the context. 0 only scores the prompt. */
  readonly maxTokens: number | null;
  /** Go on after an end-of-sequence token. */
  readonly ignoreEos: boolean;
  /** Tokens that end the answer too; they are no part of its text. */
  readonly stopTokens: readonly number[];
  /** Tokens before which nothing ends the answer. */
  readonly minTokens: number;
  /** Control tokens are part of the text. */
  readonly showSpecial: boolean;
  /** What ends the answer, a text or a token of `stopTokens`, is part of it. */
  readonly includeStop: boolean;
  /** Log-probability of each token, and of so many alternatives; null = none at all. */
  readonly logprobs: number | null;
}

export const GREEDY: SamplingParams = {
  temperature: 0,
  topK: null,
  topP: 1,
  minP: 0,
  adjustments: null,
  seed: null,
  stop: [],
  maxTokens: null,
  ignoreEos: false,
  stopTokens: [],
  minTokens: 0,
  showSpecial: false,
  includeStop: false,
  logprobs: null,
};

/** OpenAI's defaults: temperature 1 and no truncation. */
export function samplingParamsOf(request: GenerationRequest): SamplingParams {
  const { stop, top_k: topK } = request;
  return {
    temperature: request.temperature ?? 1,
    topK: topK === null || topK === undefined || topK < 1 ? null : topK,
    topP: request.top_p ?? 1,
    minP: request.min_p ?? 0,
    adjustments: adjustmentsOf(request),
    seed: request.seed ?? null,
    stop: typeof stop === 'string' ? [stop] : (stop ?? []),
    maxTokens: maxTokensOf(request),
    ignoreEos: request.ignore_eos ?? false,
    stopTokens: request.stop_token_ids ?? [],
    minTokens: request.min_tokens ?? 0,
    showSpecial: request.skip_special_tokens === false,
    includeStop: request.include_stop_str_in_output ?? false,
    logprobs: logprobsOf(request),
  };
}

/**
 * Seeds of a request's answers: they count up from the request's own, and past the largest safe integer from 0, so that
 * no two are equal.
 */
export function choiceSeeds(seed: number | null, choices: number): (number | null)[] {
  return Array.from({ length: choices }, (_, choice) => {
    if (seed === null) return null;
    const room = Number.MAX_SAFE_INTEGER - seed;
    return choice <= room ? seed + choice : choice - room - 1;
  });
}

function adjustmentsOf(request: SamplingFields): LogitAdjustments | null {
  const adjustments: LogitAdjustments = {
    bias: Object.entries(request.logit_bias ?? {}).map(([id, bias]) => [Number(id), bias] as const),
    repetition: request.repetition_penalty ?? 1,
    frequency: request.frequency_penalty ?? 0,
    presence: request.presence_penalty ?? 0,
  };
  const { bias, repetition, frequency, presence } = adjustments;
  return bias.length === 0 && repetition === 1 && frequency === 0 && presence === 0 ? null : adjustments;
}

function logprobsOf(request: GenerationRequest): number | null {
  if ('input' in request) return wantsLogprobs(request) ? (request.top_logprobs ?? 0) : null;
  if ('messages' in request) return request.logprobs === true ? (request.top_logprobs ?? 0) : null;
  return request.logprobs ?? null;
}
