import type { Context } from 'hono';
import { errorResponse, ok, type ApiError } from '../../protocol/api-error.ts';
import {
  embeddingInputs,
  parseEmbedding,
  type EmbeddingList,
  type EmbeddingRequest,
} from '../../protocol/embed-tokenize.ts';
import { idsOfInput } from '../prompts/prompt.ts';
import { type Generation, startGeneration } from './generation.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import { poolInputs } from './pooled.ts';
import { ignoredHeaders, readAsked } from './read-request.ts';

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
  const refuse = (error: ApiError): Response => {
    generation.fail(error.code);
    return errorResponse(error);
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
  return poolInputs<Float64Array>({
    c,
    context,
    services,
    generation,
    directive,
    inputs: inputs.length,
    idsOf: (at, caller) =>
      idsOfInput(inputs[at]!, services, caller, {
        prefixed: true,
        param: typeof request.input === 'string' || inputs.length === 1 ? 'input' : `input[${at}]`,
      }),
    how: { pooling: request.pooling ?? 'mean' },
    valueOf: (event) => (event.kind === 'embedding' ? event.values : null),
    answer: (vectors, promptTokens) =>
      ok(
        Response.json(listOf(request, vectors, directive.model, promptTokens), {
          headers: ignoredHeaders(ignored),
        }),
      ),
  });
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
