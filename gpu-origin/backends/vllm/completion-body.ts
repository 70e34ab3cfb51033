/** What vLLM is asked for: the tokens of an answer, chosen there as the request wants them chosen. */
import { type ApiError, err, ok, type Result } from '../../../protocol/index.ts';
import type { EngineRequest, ScoredToken, TokenScore } from '../../engine/engine.ts';
import { FormAtVllm } from './structured-outputs.ts';
import { tokenOf, type StreamChunk, type VllmCompletion } from './vllm-api.ts';

/** vLLM's `--max-logprobs` unless given; more is refused there. */
export const MAX_LOGPROBS = 20;

/** @returns why this engine cannot do it; null = it can. */
export function cannotDo({ pooling, promptLogprobs }: EngineRequest): ApiError | null {
  const refuse = (what: string, param: string): ApiError => ({
    code: 'unsupported_parameter',
    message: `${what} by the engine of this origin (vLLM): ask an origin that runs the model itself.`,
    param,
  });
  if (pooling !== undefined) return refuse('Embeddings are not made', 'input');
  // vLLM 0.32's CPU backend dies of them beside an adapter (punica_cpu's add_lora_logits), with all that it runs.
  return promptLogprobs === null ? null : refuse('The scores of a prompt are not given', 'prompt_logprobs');
}

/**
 * @param generated tokens of the answer so far: a run that was set aside goes on behind them. Penalties count them as
 * prompt then, which changes what frequency and presence penalties do to them.
 * @param most tokens that may still come.
 */
export function completionBody(params: {
  model: string;
  request: EngineRequest;
  seed: number | null;
  generated: readonly number[];
  most: number;
  salt: string;
}): VllmCompletion {
  const { model, request, seed, generated, most, salt } = params;
  const { sampling, prompt } = request;
  const { adjustments: adjusted } = sampling;
  const bias = adjusted?.bias ?? [];
  const form = formOf(request);
  return {
    model,
    prompt: [...prompt, ...generated],
    max_tokens: most,
    temperature: sampling.temperature,
    top_p: sampling.topP,
    top_k: sampling.topK ?? 0,
    min_p: sampling.minP,
    // Another part of an answer goes on with another stream of draws, and with the same one each time.
    ...(seed === null ? {} : { seed: seed + generated.length }),
    repetition_penalty: adjusted?.repetition ?? 1,
    frequency_penalty: adjusted?.frequency ?? 0,
    presence_penalty: adjusted?.presence ?? 0,
    ...(bias.length === 0 ? {} : { logit_bias: Object.fromEntries(bias) }),
    stop_token_ids: sampling.stopTokens,
    // What is held to a form ends where that ends.
    ignore_eos: sampling.ignoreEos && form === null,
    min_tokens: form === null ? Math.max(0, sampling.minTokens - generated.length) : 0,
    ...(form === null ? {} : { structured_outputs: form.outputs }),
    ...(sampling.logprobs === null ? {} : { logprobs: Math.min(sampling.logprobs, MAX_LOGPROBS) }),
    return_token_ids: true,
    return_tokens_as_token_ids: true,
    add_special_tokens: false,
    // What one tenant's prompts left in the prefix cache is not to be found out by another.
    cache_salt: salt,
  };
}

/** @throws Error for what another engine compiled. */
export function formOf({ grammar }: EngineRequest): FormAtVllm | null {
  if (grammar == null) return null;
  if (!(grammar instanceof FormAtVllm)) throw new Error('a grammar of another engine');
  return grammar;
}

/** The tokens of an event; an error when it says of what it chose less than was asked for. */
export function tokensOf(chunk: StreamChunk, wanted: number | null): Result<readonly ScoredToken[], string> {
  const tokens: ScoredToken[] = [];
  for (const { token_ids: ids, logprobs } of chunk.choices) {
    if (ids == null) {
      if (logprobs != null) return err('tokens without their ids');
      continue;
    }
    if (wanted !== null && logprobs?.tokens.length !== ids.length) return err('tokens without their scores');
    for (const [at, id] of ids.entries()) {
      if (wanted === null || logprobs == null) {
        tokens.push({ id, logprob: null, top: [] });
        continue;
      }
      const top = Object.entries(logprobs.top_logprobs?.[at] ?? {});
      tokens.push({ id, logprob: logprobs.token_logprobs[at] ?? null, top: likeliest(top, wanted) });
    }
  }
  return ok(tokens);
}

/** @param entries by `token_id:<id>`. */
const likeliest = (entries: readonly (readonly [string, number])[], most: number): TokenScore[] =>
  entries
    .map(([token, logprob]) => ({ id: tokenOf(token), logprob }))
    .sort((a, b) => b.logprob - a.logprob || a.id - b.id)
    .slice(0, most);
