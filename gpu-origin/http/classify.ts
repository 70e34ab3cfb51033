/** `POST /v1/classify`, `/v1/score` and `/v1/rerank`: what an adapter's classification head makes of texts. */
import type { Context } from 'hono';
import { err, errorResponse, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { labelOf } from '../../protocol/classes.ts';
import {
  type ClassifyAnswer,
  type ClassifyRequest,
  classifiedIn,
  joinedPair,
  pairsIn,
  parseClassify,
  parseRerank,
  parseScore,
  type RerankAnswer,
  type RerankRequest,
  type ScoreAnswer,
  type ScoreRequest,
} from '../../protocol/classify.ts';
import { embeddingInputs } from '../../protocol/embed-tokenize.ts';
import { CLASSES_HEADER, writeClasses } from '../../protocol/origin-wire.ts';
import { MAX_PROBABILITIES } from '../../protocol/limits.ts';
import type { Parsed, ParseOptions } from '../../protocol/parse-body.ts';
import { activated, type Classes, likeliest } from '../generation/class-scores.ts';
import { idsOfInput, type PromptCaller, promptOf, type PromptServices } from '../prompts/prompt.ts';
import { answerText } from './completions.ts';
import { startGeneration } from './generation.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import { poolInputs } from './pooled.ts';
import { ignoredHeaders, readAsked } from './read-request.ts';

/** What the answers of all three have in common. */
interface Common {
  id: string;
  /** Unix seconds. */
  created: number;
  model: string;
  usage: ClassifyAnswer['usage'];
}

interface Kind<T> {
  /** Of the answer's id, as in vLLM. */
  prefix: string;
  parse(body: unknown, options: ParseOptions): Result<Parsed<T>, ApiError>;
  /** How many texts there are. */
  inputs(request: T): number;
  /** The token ids of one. */
  ids(
    request: T,
    at: number,
    services: PromptServices,
    caller: PromptCaller,
  ): Promise<Result<readonly number[], ApiError>>;
  answer(request: T, classes: readonly Classes[], common: Common): Result<Answered, ApiError>;
}

interface Answered {
  body: object;
  /** The label of each text, for the edge; absent = they have none. */
  labels?: readonly string[];
}

const CLASSIFY: Kind<ClassifyRequest> = {
  prefix: 'classify',
  parse: parseClassify,
  inputs: classifiedIn,
  async ids(request, at, services, caller) {
    const { input, messages, add_special_tokens } = request;
    if (input == null) {
      const { input: _, ...chat } = request;
      const prompt = await promptOf({ ...chat, messages: messages ?? [] }, services, caller);
      return prompt.ok ? ok(prompt.value.ids) : prompt;
    }
    const inputs = embeddingInputs(input);
    return idsOfInput(inputs[at]!, services, caller, {
      prefixed: add_special_tokens !== false,
      param: typeof input === 'string' || inputs.length === 1 ? 'input' : `input[${at}]`,
    });
  },
  answer(request, classes, common) {
    const each = classes[0]?.scores.length ?? 1;
    const most = Math.floor(MAX_PROBABILITIES / each);
    if (classes.length > most) {
      const message = `This model has ${each} classes. Send at most ${most} texts in one request.`;
      return err({ code: 'invalid_request', message, param: 'input' });
    }
    const data = classes.map((one, index) => {
      const probs = activated(one, request.use_activation !== false);
      return { index, label: labelOf(one.head.labels, likeliest(probs)), probs, num_classes: probs.length };
    });
    const body = { ...common, object: 'list', data } satisfies ClassifyAnswer;
    return ok({ body, labels: data.map(({ label }) => label) });
  },
};

const pairIds: Kind<ScoreRequest | RerankRequest>['ids'] = (request, at, services, caller) =>
  idsOfInput(joinedPair(request, at), services, caller, {
    prefixed: true,
    param: 'query' in request ? `documents[${at}]` : `text_2[${at}]`,
  });

const SCORE: Kind<ScoreRequest> = {
  prefix: 'score',
  parse: parseScore,
  inputs: pairsIn,
  ids: pairIds,
  answer(request, classes, common) {
    const scores = scoresOf(classes, request.use_activation !== false);
    if (!scores.ok) return scores;
    const data = scores.value.map((score, index) => ({ index, object: 'score' as const, score }));
    return ok({ body: { ...common, object: 'list', data } satisfies ScoreAnswer });
  },
};

const RERANK: Kind<RerankRequest> = {
  prefix: 'rerank',
  parse: parseRerank,
  inputs: pairsIn,
  ids: pairIds,
  answer(request, classes, { created: _, ...common }) {
    const scores = scoresOf(classes, request.use_activation !== false);
    if (!scores.ok) return scores;
    const results = scores.value.map((relevance_score, index) => ({
      index,
      ...(request.return_documents === false ? {} : { document: { text: request.documents[index]! } }),
      relevance_score,
    }));
    // Equal ones stay in the order of the request.
    results.sort((a, b) => b.relevance_score - a.relevance_score);
    const most = request.top_n == null || request.top_n === 0 ? results.length : request.top_n;
    return ok({ body: { ...common, results: results.slice(0, most) } satisfies RerankAnswer });
  },
};

export function handleClassify(
  kind: 'classify' | 'score' | 'rerank',
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  if (kind === 'classify') return handle(CLASSIFY, c, context, services);
  return kind === 'score' ? handle(SCORE, c, context, services) : handle(RERANK, c, context, services);
}

function handle<T extends { model?: string | null | undefined }>(
  kind: Kind<T>,
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  const generation = startGeneration('classify', c, context, services);
  return generation.answer(async () => {
    const asked = readAsked(kind.parse, c, context, services);
    if (!asked.ok) {
      generation.fail(asked.error.code);
      return errorResponse(asked.error);
    }
    const { request, directive, ignored } = asked.value;
    generation.asked(directive, null);
    if (directive.requestId !== null) c.set('requestId', directive.requestId);
    return poolInputs<Classes>({
      c,
      context,
      services,
      generation,
      directive,
      inputs: kind.inputs(request),
      idsOf: (at, caller) => kind.ids(request, at, services, caller),
      how: { classifies: true },
      valueOf: (event) => (event.kind === 'classes' ? event : null),
      answer(classes, promptTokens) {
        const common = {
          id: `${kind.prefix}-${answerText(c)}`,
          created: Math.floor(context.now() / 1000),
          model: directive.model,
          usage: { prompt_tokens: promptTokens, total_tokens: promptTokens, completion_tokens: 0 as const },
        };
        const answer = kind.answer(request, classes, common);
        if (!answer.ok) return answer;
        const response = Response.json(answer.value.body, { headers: ignoredHeaders(ignored) });
        const labels = context.mode.kind === 'signed' ? answer.value.labels : undefined;
        const told = labels === undefined ? null : writeClasses(labels);
        if (told !== null) response.headers.set(CLASSES_HEADER, told);
        return ok(response);
      },
    });
  });
}

/**
 * Of heads of one class. Unlike in vLLM, a regression keeps its numbers: transformers calls every head of one output so
 * that was trained on numbers, and these are the trained ones.
 */
function scoresOf(classes: readonly Classes[], activates: boolean): Result<number[], ApiError> {
  const several = classes.find(({ scores }) => scores.length > 1)?.scores.length;
  if (several !== undefined)
    return err({
      code: 'wrong_endpoint',
      message: `This model's head has ${several} classes, and scores need a head of one. Ask it at /v1/classify.`,
      param: 'model',
    });
  return ok(classes.map((one) => activated(one, activates)[0]!));
}
