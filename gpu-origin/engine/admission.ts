import { err, ok, type ApiError, type Result } from '../../protocol/index.ts';
import type { EngineRequest } from './engine-types.ts';
import type { ModelRunner } from './ports.ts';

/** What can be said about a request without looking at the queue. @returns the limit of tokens that holds: what fits. */
export function checkRequest(
  request: EngineRequest,
  runner: Pick<ModelRunner, 'base' | 'vocabSize'>,
): Result<{ maxTokens: number }, ApiError> {
  const { prompt, sampling } = request;
  const { context } = runner.base;
  if (prompt.length === 0)
    return err({ code: 'invalid_request', message: 'The prompt is empty.', param: 'prompt' });
  const unknown = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= runner.vocabSize);
  if (unknown !== undefined)
    return err({
      code: 'invalid_request',
      message: `Token ${unknown} is not in the vocabulary of ${runner.vocabSize} tokens.`,
      param: 'prompt',
    });
  const beyond = sampling.adjustments?.bias.find(([id]) => id >= runner.vocabSize);
  if (beyond !== undefined) return err(noSuchBias(beyond[0]));
  const full = contextFull({ context, prompt: prompt.length, maxTokens: sampling.maxTokens, param: null });
  if (full !== null) return err(full);
  const room = context - prompt.length;
  return ok({ maxTokens: Math.min(sampling.maxTokens ?? room, room) });
}

export type ContextLengthExceeded = Extract<ApiError, { code: 'context_length_exceeded' }>;

/** Why a prompt of so many tokens does not fit: there must be room for one token more, where one is wanted. */
export function contextFull(params: {
  context: number;
  prompt: number;
  maxTokens: number | null;
  param: string | null;
}): ContextLengthExceeded | null {
  const { context, prompt, maxTokens, param } = params;
  if (context - prompt >= Math.min(1, maxTokens ?? 1)) return null;
  const message =
    `This model's maximum context length is ${context} tokens. However, the prompt has ${prompt}, ` +
    'which leaves no room for an answer. The prompt is too long: please reduce its length.';
  return { code: 'context_length_exceeded', message, param, promptTokens: prompt };
}

/** `logit_bias` names a token that the base does not have. */
export const noSuchBias = (id: number): ApiError => ({
  code: 'invalid_request',
  message: `There is no token ${id} in this model's vocabulary.`,
  param: `logit_bias.${id}`,
});

/** Repeating it cannot help: the server takes fewer. */
export const neverFits = (rows: number): ApiError => ({
  code: 'queue_full',
  message: `This server has no room for ${rows} answers at once; ask for fewer ('n').`,
  retryAfterMs: null,
});

export const queueFull = (queued: number, retryAfterMs: number): ApiError => ({
  code: 'queue_full',
  message: `${queued} requests are waiting already.`,
  retryAfterMs,
});

export const deadlineExceeded = (): ApiError => ({
  code: 'deadline_exceeded',
  message: 'The time for this request ran out.',
});

export const shuttingDown = (): ApiError => ({
  code: 'origin_unavailable',
  message: 'The server is stopping.',
  retryAfterMs: 1_000,
});

/** The row's logits are NaN or infinite: its adapters, most likely. */
export const NOT_FINITE = 'The model gave no finite output for this request.';

export const MODEL_FAILED = 'The model failed in the middle of this request.';

export const rowFault = (message: string): ApiError => ({ code: 'internal_error', message });
