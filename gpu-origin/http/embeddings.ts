import type { Context } from 'hono';
import { err, errorResponse, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import {
  embeddingInputs,
  parseEmbedding,
  type EmbeddingList,
  type EmbeddingRequest,
} from '../../protocol/embed-tokenize.ts';
import { USAGE_HEADER, writeUsageNote } from '../../protocol/origin-wire.ts';
import { deadlineExceeded, type EngineHandle } from '../engine/engine.ts';
import { GREEDY } from '../generation/sampler.ts';
import {
  unknownToken,
  encodeCooperatively,
  type PromptCaller,
  type PromptServices,
} from '../prompts/prompt.ts';
import { trackUsage } from './completions.ts';
import { type Generation, startGeneration } from './generation.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import { ignoredHeaders, readAsked } from './read-request.ts';
import { pause } from './run-prompts.ts';

/** Inputs of one request in the engine at once: one is read while the next is encoded. */
const AT_ONCE = 2;

/** `POST /v1/embeddings`: each input is prefilled like a prompt, and its hidden states are pooled. */
export function handleEmbeddings(
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  const generation = startGeneration('embeddings', c, context, services);
  return generation.answer(() => embedAll(c, context, services, generation));
}

async function embedAll(
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
  generation: Generation,
): Promise<Response> {
  const refuse = (error: ApiError, headers: Record<string, string> = {}): Response => {
    generation.fail(error.code);
    return errorResponse(error, headers);
  };
  const asked = readAsked(parseEmbedding, c, context, services);
  if (!asked.ok) return refuse(asked.error);
  const { request, directive, ignored } = asked.value;
  generation.asked(directive, null);
  if (directive.requestId !== null) c.set('requestId', directive.requestId);
  const size = services.engine.hiddenSize;
  if (request.dimensions != null && request.dimensions !== size) {
    const message = `This model's vectors have ${size} dimensions. Remove 'dimensions'.`;
    return refuse({ code: 'unsupported_parameter', message, param: 'dimensions' });
  }
  const inputs = embeddingInputs(request.input);
  const arrivedAt = context.now();
  const failed = new AbortController();
  const signal = AbortSignal.any([c.req.raw.signal, failed.signal]);
  const tracked = trackUsage(c, context, inputs.length, () => failed.abort());
  let promptTokens = 0;
  /** Whether any input has reached the engine. */
  let begun = false;

  const embed = async (at: number): Promise<Result<Float64Array, ApiError>> => {
    const { tenant, chain, budgetMs } = directive;
    const leftMs = budgetMs === null ? null : budgetMs - (context.now() - arrivedAt);
    if (begun && leftMs !== null && leftMs <= 0) return err(deadlineExceeded());
    const param = typeof request.input === 'string' || inputs.length === 1 ? 'input' : `input[${at}]`;
    const prompt = await idsOf(inputs[at]!, services, { tenant, signal }, param);
    if (!prompt.ok) return prompt;
    const leave = generation.enter();
    const added = await services.engine.add({
      id: c.var.requestId,
      parent: generation.parent,
      span: generation.span,
      ...{ tenant, chain, signal },
      prompt: prompt.value,
      sampling: { ...GREEDY, maxTokens: 0 },
      promptLogprobs: null,
      pooling: request.pooling ?? 'mean',
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
    return added.ok ? vectorOf(added.value) : added;
  };

  const vectors: Float64Array[] = [];
  const waiting = [...inputs.keys()];
  let failure: ApiError | null = null;
  /** Lanes that have not ended. */
  let open = AT_ONCE;
  const work = async (): Promise<void> => {
    for (let at = waiting.shift(); at !== undefined && failure === null; at = waiting.shift()) {
      const vector = await embed(at);
      if (vector.ok) {
        vectors[at] = vector.value;
        continue;
      }
      const { error } = vector;
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
  failure = inputs.length > 1 ? await services.engine.check(digests, true) : null;
  await Promise.all(Array.from({ length: AT_ONCE }, work)).finally(letGo);
  tracked?.refused();
  const headers: Record<string, string> =
    context.mode.kind === 'signed'
      ? { [USAGE_HEADER]: writeUsageNote({ promptTokens, completionTokens: 0 }) }
      : {};
  if (failure !== null) return refuse(failure, promptTokens > 0 ? headers : {});
  return Response.json(listOf(request, vectors, directive.model, promptTokens), {
    headers: { ...headers, ...ignoredHeaders(ignored) },
  });
}

/** Control strings in a text are plain text. */
async function idsOf(
  input: string | readonly number[],
  services: PromptServices,
  caller: PromptCaller,
  param: string,
): Promise<Result<readonly number[], ApiError>> {
  const { tokenizer, base } = services;
  if (typeof input !== 'string') {
    const unknown = unknownToken(input, tokenizer, param);
    return unknown === null ? ok(input) : err(unknown);
  }
  const ids = await encodeCooperatively(services, caller, {
    bytes: Buffer.byteLength(input),
    param,
    steps: tokenizer.encodeChunked(input, { allowSpecial: false, limit: base.context }),
  });
  return ids.ok ? ok([...tokenizer.prefixIds, ...ids.value]) : ids;
}

async function vectorOf({ events }: Pick<EngineHandle, 'events'>): Promise<Result<Float64Array, ApiError>> {
  for await (const event of events) {
    if (event.kind === 'embedding') return ok(event.values);
    if (event.kind === 'error') return err(event.error);
  }
  const message = 'The origin is shutting down, or the request was cancelled.';
  return err({ code: 'origin_unavailable', message, retryAfterMs: 1_000 });
}

function listOf(
  request: EmbeddingRequest,
  vectors: readonly Float64Array[],
  model: string,
  promptTokens: number,
): EmbeddingList {
  const data = vectors.map((vector, index) => ({
    object: 'embedding' as const,
    index,
    embedding: encoded(request.normalize === false ? vector : normalized(vector), request.encoding_format),
  }));
  return {
    object: 'list',
    data,
    model,
    usage: { prompt_tokens: promptTokens, total_tokens: promptTokens },
  };
}

function normalized(vector: Float64Array): Float64Array {
  const norm = Math.hypot(...vector);
  return norm === 0 ? vector : vector.map((value) => value / norm);
}

function encoded(vector: Float64Array, format: EmbeddingRequest['encoding_format']): number[] | string {
  const values = Float32Array.from(vector);
  if (format !== 'base64') return [...values];
  return Buffer.from(values.buffer).toString('base64');
}
