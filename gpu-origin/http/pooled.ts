/** Requests without generated text: each of their inputs is prefilled like a prompt, and its states become one value. */
import type { Context } from 'hono';
import { err, errorResponse, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { USAGE_HEADER, writeUsageNote } from '../../protocol/origin-wire.ts';
import { deadlineExceeded, type EngineEvent, type EngineRequest } from '../engine/engine.ts';
import { GREEDY } from '../generation/sampler.ts';
import type { PromptCaller } from '../prompts/prompt.ts';
import { trackUsage } from './completions.ts';
import type { Generation } from './generation.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import type { Directive } from './read-request.ts';
import { pause } from './run-prompts.ts';

/** Inputs of one request in the engine at once: one is read while the next is encoded. */
const AT_ONCE = 2;

interface PooledParams<T> {
  c: Context<OriginEnv>;
  context: OriginContext;
  services: Services;
  generation: Generation;
  directive: Directive;
  /** How many there are. */
  inputs: number;
  /** Its token ids. @param at its index. */
  idsOf(at: number, caller: PromptCaller): Promise<Result<readonly number[], ApiError>>;
  /** What becomes of its states. */
  how: Pick<EngineRequest, 'pooling' | 'classifies'>;
  /** @returns null for events without the value. */
  valueOf(event: EngineEvent): T | null;
  /** The answer. @param promptTokens of all inputs. */
  answer(values: readonly T[], promptTokens: number): Result<Response, ApiError>;
}

/** Answers with the values of all inputs, in their order, or with the first error. */
export async function poolInputs<T>(params: PooledParams<T>): Promise<Response> {
  const { c, context, services, generation, directive, inputs, how } = params;
  const arrivedAt = context.now();
  const failed = new AbortController();
  const signal = AbortSignal.any([c.req.raw.signal, failed.signal]);
  const tracked = trackUsage(c, context, inputs, () => failed.abort());
  let promptTokens = 0;
  /** Whether any input has reached the engine. */
  let begun = false;

  const pool = async (at: number): Promise<Result<T, ApiError>> => {
    const { tenant, chain, budgetMs } = directive;
    const leftMs = budgetMs === null ? null : budgetMs - (context.now() - arrivedAt);
    if (begun && leftMs !== null && leftMs <= 0) return err(deadlineExceeded());
    const prompt = await params.idsOf(at, { tenant, signal });
    if (!prompt.ok) return prompt;
    const leave = generation.enter();
    const added = await services.engine.add({
      id: c.var.requestId,
      parent: generation.parent,
      span: generation.span,
      tenant,
      chain,
      signal,
      ...how,
      prompt: prompt.value,
      sampling: { ...GREEDY, maxTokens: 0 },
      promptLogprobs: null,
      budgetMs: leftMs === null ? null : Math.max(1, leftMs),
      onEnd(ran) {
        generation.rowEnded(ran, at, signal.aborted);
        leave();
        promptTokens += ran.promptTokens;
        tracked?.ended({ promptTokens, completionTokens: 0 });
      },
    });
    begun ||= added.ok;
    if (!added.ok) leave();
    return added.ok ? valueIn(added.value.events, params.valueOf) : added;
  };

  const values: T[] = [];
  const waiting = Array.from({ length: inputs }, (_, at) => at);
  let failure: ApiError | null = null;
  /** Lanes that have not ended. */
  let open = AT_ONCE;
  const work = async (): Promise<void> => {
    for (let at = waiting.shift(); at !== undefined && failure === null; at = waiting.shift()) {
      const value = await pool(at);
      if (value.ok) {
        values[at] = value.value;
        continue;
      }
      const { error } = value;
      const full = error.code === 'queue_full' && begun ? error.retryAfterMs : null;
      if (full === null || signal.aborted) {
        failure ??= error;
        failed.abort();
        break;
      }
      // Once started, it waits for space in the queue: otherwise its work so far would be lost.
      waiting.unshift(at);
      if (open > 1) break;
      await pause(full, signal);
    }
    open -= 1;
  };
  const digests = directive.chain.map(({ digest }) => digest);
  const letGo = services.files.keep(digests);
  failure = inputs > 1 ? await services.engine.check(digests, true) : null;
  await Promise.all(Array.from({ length: AT_ONCE }, work)).finally(letGo);
  tracked?.refused();
  const headers: Record<string, string> =
    context.mode.kind === 'signed'
      ? { [USAGE_HEADER]: writeUsageNote({ promptTokens, completionTokens: 0 }) }
      : {};
  const answered: Result<Response, ApiError> =
    failure === null ? params.answer(values, promptTokens) : err(failure);
  if (!answered.ok) {
    generation.fail(answered.error.code);
    return errorResponse(answered.error, promptTokens > 0 ? headers : {});
  }
  for (const [name, value] of Object.entries(headers)) answered.value.headers.set(name, value);
  return answered.value;
}

async function valueIn<T>(
  events: AsyncIterable<EngineEvent>,
  valueOf: (event: EngineEvent) => T | null,
): Promise<Result<T, ApiError>> {
  for await (const event of events) {
    const value = valueOf(event);
    if (value !== null) return ok(value);
    if (event.kind === 'error') return err(event.error);
  }
  const message = 'The origin is shutting down, or the request was cancelled.';
  return err({ code: 'origin_unavailable', message, retryAfterMs: 1_000 });
}
