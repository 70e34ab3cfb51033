/** The client API that runs models: completions, and requests that only need a base's tokenizer. */
import type { AskedOrigin, CompletionCall } from '../origins/send.ts';
import { Hono } from 'hono';
import { errorStatus, ok, type ApiError, type Result, err } from '../../protocol/api-error.ts';
import {
  CLASSES_HEADER,
  isEventStream,
  readClasses,
  writeUsageNote,
  USAGE_HEADER,
} from '../../protocol/origin-wire.ts';
import {
  takeEdgeFields,
  type EdgeRequest,
  parseChatCompletion,
  parseTextCompletion,
  type ChatCompletionRequest,
  type TextCompletionRequest,
} from '../../protocol/completion.ts';
import {
  parseDetokenize,
  parseTokenize,
  type DetokenizeRequest,
  type TokenizeRequest,
  embeddingInputs,
  parseEmbedding,
  type EmbeddingRequest,
} from '../../protocol/embed-tokenize.ts';
import {
  charactersOfPairs,
  classifiedIn,
  pairsIn,
  parseClassify,
  parseRerank,
  parseScore,
  type ClassifyRequest,
  type RerankRequest,
  type ScoreRequest,
} from '../../protocol/classify.ts';
import {
  parseCountTokens,
  type CountTokensRequest,
  parseMessagesRequest,
  type MessagesRequest,
} from '../../protocol/messages.ts';
import {
  type Parsed,
  type ParseOptions,
  IGNORED_HEADER,
  readIgnored,
  writeIgnored,
} from '../../protocol/parse-body.ts';
import { parseInputTokens, type ResponseRequest, parseResponse } from '../../protocol/responses.ts';
import {
  fail,
  keepAlive,
  methodNotAllowed,
  requestLife,
  type AppContext,
  type AppEnv,
  type OriginPhase,
  type RequestTrace,
} from '../http/request.ts';
import { newExposureId, type AnswerTokens, type Exposure } from '../experiments/answer-token.ts';
import {
  endUser,
  USER_HEADER,
  assignVariant,
  learnerHash,
  type Assignment,
  type AssignDeps,
  recordBeginning,
  recordEnding,
  type RequestOutcome,
} from '../experiments/assign.ts';
import type { ExperimentSink } from '../experiments/ports.ts';
import type { CompletionMeter, MeteredAnswer, TokenCounts } from '../metering/ports.ts';
import type { Caller } from '../access/ports.ts';
import type { Keeping, PromptKeeper } from '../prompts/ports.ts';
import { MAX_UNKNOWN_NAME, UNKNOWN_CONTEXT_TOKENS } from './limits.ts';
import { enterGate } from '../access/rate-limits.ts';
import { recordEnded } from '../traffic/parts.ts';
import type { TrafficSink } from '../traffic/ports.ts';
import {
  admitRequest,
  type AuthDeps,
  type AdmittedRequest,
  refusesUnknownFields,
} from '../access/authenticate.ts';
import { runShadow, type ShadowDeps } from '../experiments/run-shadow.ts';
import {
  lookUpModel,
  type PendingModel,
  type ResolveDeps,
  type Resolution,
  type Resolved,
} from './resolve.ts';
import type { OriginClient } from '../origins/client.ts';
import { promptsIn, maxTokensOf } from '../../protocol/request-fields.ts';

type CompletionBody =
  | ChatCompletionRequest
  | TextCompletionRequest
  | ResponseRequest
  | MessagesRequest
  | EmbeddingRequest
  | ClassifyRequest
  | ScoreRequest
  | RerankRequest;

interface Endpoint<T extends CompletionBody = CompletionBody> {
  path: CompletionCall['path'];
  /** @param body parsed JSON. */
  parse(body: unknown, options: ParseOptions): Result<Parsed<T>, ApiError>;
  streams(body: T): boolean;
  /** The end user that it names. */
  endUser(body: T): { user?: string | null | undefined; safetyIdentifier?: string | null | undefined };
  /**
   * An upper bound of the tokens that it can use.
   * @param room the base's context, tokens.
   */
  mostTokens(body: T, room: number): TokenCounts;
  /** Whether it may take part in an experiment. */
  inExperiments: boolean;
  /** Whether two of its answers differ only if the adapters do. */
  isRepeatable(body: T): boolean;
  /** Whether answers contain text. */
  returnsText: boolean;
  /** Whether answers are kept for keys that keep prompts. */
  keepsAnswers: boolean;
}

/** Whether two answers to the request differ only if the adapters do: it is greedy or has a seed. */
export const isRepeatable = (request: {
  temperature?: number | null | undefined;
  seed?: number | null | undefined;
}): boolean => request.temperature === 0 || (request.seed ?? null) !== null;

const namedUser = (body: {
  user?: string | null | undefined;
  safety_identifier?: string | null | undefined;
}) => ({ user: body.user, safetyIdentifier: body.safety_identifier });

const answered = <T extends ChatCompletionRequest | TextCompletionRequest | ResponseRequest>(
  path: CompletionCall['path'],
  parse: Endpoint<T>['parse'],
): Endpoint<T> => ({
  ...{ path, parse, mostTokens, isRepeatable, endUser: namedUser },
  streams: ({ stream }) => stream === true,
  inExperiments: true,
  returnsText: true,
  keepsAnswers: true,
});

const CHAT = answered('/v1/chat/completions', parseChatCompletion);
const TEXT = answered('/v1/completions', parseTextCompletion);
const RESPONSE = answered('/v1/responses', parseResponse);

const MESSAGES: Endpoint<MessagesRequest> = {
  path: '/v1/messages',
  parse: parseMessagesRequest,
  streams: ({ stream }) => stream === true,
  endUser: ({ metadata }) => ({ user: metadata?.user_id }),
  inExperiments: true,
  returnsText: true,
  keepsAnswers: true,
  isRepeatable,
  mostTokens: (body, room) =>
    mostTokens({ model: body.model, prompt: JSON.stringify(body), max_tokens: body.max_tokens }, room),
};

/** An answer without text: vectors, or what a classification head makes of texts. */
const pooled = <T extends EmbeddingRequest | ClassifyRequest | ScoreRequest | RerankRequest>(
  path: CompletionCall['path'],
  parse: Endpoint<T>['parse'],
  /** Bytes of what is read, and how many prompts it is at most. */
  sizeOf: (body: T) => { bytes: number; prompts: number },
): Endpoint<T> => ({
  path,
  parse,
  streams: () => false,
  endUser: namedUser,
  inExperiments: true,
  returnsText: false,
  keepsAnswers: true,
  isRepeatable: () => true,
  mostTokens(body, room) {
    const { bytes, prompts } = sizeOf(body);
    return { promptTokens: Math.min(bytes, prompts * room), completionTokens: 0 };
  },
});

const bytesOf = (value: unknown): number => new TextEncoder().encode(JSON.stringify(value)).length;

const EMBEDDING: Endpoint<EmbeddingRequest> = {
  ...pooled('/v1/embeddings', parseEmbedding, ({ input }: EmbeddingRequest) => ({
    bytes: bytesOf(input),
    prompts: embeddingInputs(input).length,
  })),
  // Vectors of different versions cannot be compared, so an index needs all of them from one.
  inExperiments: false,
  // Nobody reads a vector.
  keepsAnswers: false,
};

/** UTF-8 has at most three bytes for each UTF-16 unit. */
const MOST_BYTES = 3;
const sizeOfPairs = (body: ScoreRequest | RerankRequest) => ({
  bytes: MOST_BYTES * charactersOfPairs(body),
  prompts: pairsIn(body),
});

const CLASSIFY = pooled('/v1/classify', parseClassify, (body: ClassifyRequest) => ({
  bytes: bytesOf(body.input ?? body),
  prompts: classifiedIn(body),
}));
const SCORE = pooled('/v1/score', parseScore, sizeOfPairs);
const RERANK = pooled('/v1/rerank', parseRerank, sizeOfPairs);

/**
 * An upper bound of a request's tokens. Charged when a client disconnects and the origin does not report its
 * usage, so that disconnecting is never cheaper than staying. Each token of a prompt takes at least one byte
 * of the body; a prompt and each of its answers fit the context together; an answer ends at its limit or with
 * the context.
 * @param room the base's context, tokens.
 */
export function mostTokens(
  request: ChatCompletionRequest | TextCompletionRequest | ResponseRequest,
  room: number,
): TokenCounts {
  const bytes = bytesOf(request);
  const asked = maxTokensOf(request);
  const limit = asked === null || asked >= room ? null : asked;
  const prompts = 'prompt' in request ? promptsIn(request.prompt).length : 1;
  const promptTokens = Math.min(bytes, prompts * (room - (limit ?? 0)));
  const answers = prompts * ('n' in request ? (request.n ?? 1) : 1);
  // Without a limit, each answer fills the rest of the context.
  const completionTokens = limit === null ? answers * room - promptTokens : answers * limit;
  return { promptTokens, completionTokens };
}

export interface CompletionDeps extends ResolveDeps, AssignDeps, AuthDeps, ShadowDeps {
  meter: CompletionMeter;
  trafficSink: TrafficSink;
  promptKeeper: PromptKeeper;
  answerTokens: AnswerTokens;
  experimentSink: ExperimentSink;
}

/** Completions of every API, `POST /v1/embeddings`, and `/v1/classify`, `/v1/score` and `/v1/rerank`. */
export function completionRoutes(deps: CompletionDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  const add = <T extends CompletionBody>(kind: Endpoint<T>) => {
    routes.post(kind.path, (context) => complete(deps, context, kind));
    routes.all(kind.path, methodNotAllowed('POST'));
  };
  add(CHAT);
  add(TEXT);
  add(RESPONSE);
  add(MESSAGES);
  add(EMBEDDING);
  add(CLASSIFY);
  add(SCORE);
  add(RERANK);
  return routes;
}

async function complete<T extends CompletionBody>(
  deps: CompletionDeps,
  context: AppContext,
  kind: Endpoint<T>,
): Promise<Response> {
  const request = context.req.raw;
  const trace = context.get('trace');
  // The key is looked up while the body arrives and the name is resolved, but its error takes precedence.
  const admitted = admitRequest(deps, request);
  const asking = trace.time('key', admitted.asking);
  const lenient = await prepare(deps, admitted, kind, { strict: refusesUnknownFields(request, null) });
  const caller = await asking;
  if (!caller.ok) return fail(caller.error);
  const prepared = refusesUnknownFields(request, caller.value) ? strictly(lenient, kind) : lenient;
  const { tenant } = caller.value;
  noteCaller(trace, caller.value);
  if (!prepared.ok) {
    const refusal = fail(prepared.error);
    admitted.refused({ tenant, status: refusal.status, names: 0 });
    recordEnded(deps, context, { code: prepared.error.code, status: refusal.status });
    return refusal;
  }
  const { body } = prepared.value;
  const keeping =
    caller.value.keep_prompts === undefined
      ? null
      : deps.promptKeeper.open(
          body,
          () => learnerHash(deps.unitHash, caller.value, namedBy(kind, body, context)),
          (work) => keepAlive(context, work),
        );
  const outcome: RequestOutcome = { assignment: null, stoodIn: false, cold: false, classes: null };
  const response = await deps.meter.measure({
    caller: caller.value,
    requestId: context.get('requestId'),
    gone: request.signal,
    keepAlive: (work) => keepAlive(context, work),
    stages: trace,
    run: (signal) =>
      serve(deps, context, {
        kind,
        caller: caller.value,
        ...prepared.value,
        signal,
        outcome,
        keeping,
      }),
    onEnd(ending) {
      trace.finish(ending);
      recordEnding(deps, context, outcome, ending);
      const how = { ...ending, cold: outcome.cold, kept: keeping !== null };
      const ended = recordEnded(deps, context, how);
      keeping?.end(ended);
    },
    onRefused: (error) => recordEnded(deps, context, { code: error.code, status: errorStatus(error) }),
  });
  if (isEventStream(response.headers)) recordBeginning(deps, context, outcome);
  const names = 1 + prepared.value.edge.adapters.length;
  admitted.refused({ tenant, status: response.status, names });
  return response;
}

/** The end user that the request names, or null. */
const namedBy = <T extends CompletionBody>(kind: Endpoint<T>, body: T, context: AppContext): string | null =>
  endUser({
    ...{ safetyIdentifier: undefined, user: undefined, ...kind.endUser(body) },
    header: context.req.header(USER_HEADER),
  });

/** Runs while the caller's quota is checked, which may abort `signal`. */
async function serve<T extends CompletionBody>(
  deps: CompletionDeps,
  context: AppContext,
  call: {
    kind: Endpoint<T>;
    caller: Caller;
    body: T;
    ignored: readonly string[];
    edge: EdgeRequest;
    resolve: PendingModel;
    signal: AbortSignal;
    outcome: RequestOutcome;
    /** null = nothing is stored. */
    keeping: Keeping | null;
  },
): Promise<MeteredAnswer> {
  const { kind, caller, body, ignored, edge, resolve, signal, outcome, keeping } = call;
  const trace = context.get('trace');
  const unserved = (error: ApiError): MeteredAnswer => {
    trace.note({ code: error.code });
    return { response: fail(error), note: null, served: null };
  };
  const participant = {
    caller,
    requestId: trace.ownId,
    user: namedBy(kind, body, context),
    header: (name: string) => context.req.header(name) ?? null,
  };
  const finding = async () => {
    const entered = edge.adapters.length === 0 ? null : enterGate(deps.gates.composing, caller.tenant);
    if (entered?.ok === false) return entered;
    const resolved = await resolve(caller, edge, requestLife(context)).finally(() => entered?.value());
    if (!resolved.ok) return resolved;
    if (!kind.inExperiments) return ok({ resolved: resolved.value, assignment: null, shadow: null });
    return ok(await assignVariant(deps, participant, resolved.value));
  };
  const found = await trace.time('name', finding());
  if (!found.ok) {
    if (found.error.code === 'model_not_found') trace.note({ unknownName: shownName(body.model) });
    return unserved(found.error);
  }
  const { resolved, assignment, shadow } = found.value;
  outcome.assignment = assignment;
  if (assignment !== null) trace.note({ experiment: assignment.experiment, variant: assignment.variant });
  const common = {
    ...{ path: kind.path, request: body, model: body.model, requestId: context.get('requestId') },
    parent: trace.span,
    arrivedAt: trace.startedAt,
    keepAlive: (work: Promise<unknown>) => keepAlive(context, work),
    takesComments: takesComments(context.req.raw.headers),
  };
  let asked: AskedOrigin | null = null;
  let silenced = false;
  const answerText =
    assignment?.counted === true ? await deps.answerTokens.issue(exposureOf(deps, caller, assignment)) : null;
  const { resolution, answer } = await completeWithFallback(resolved, (asks) =>
    trace.time(
      'origin',
      deps.origins.complete({
        ...{
          ...common,
          manifest: asks.manifest,
          base: asks.base,
          chain: asks.chain,
          tenant: caller.tenant,
          signal,
        },
        // A fallback's answer is not rated.
        ...(answerText !== null && asks === resolved.resolution ? { answerText } : {}),
        stages: trace,
        ...(assignment === null || asks !== resolved.resolution
          ? {}
          : { experiment: { id: assignment.experiment, variant: assignment.variant } }),
        onAsked: (last) => (asked = last),
        onCold: () => (outcome.cold = true),
        onSilenced: () => (silenced = true),
      }),
    ),
  );
  const left = whenLeft(deps, resolution.base, (room) => kind.mostTokens(body, room), asked);
  outcome.stoodIn = resolution !== resolved.resolution;
  const { declared } = deps.origins.bases;
  const served = usageName(resolution, declared);
  const { base: _, ...name } = served;
  trace.note({ ...name, chainId: resolution.chainId, stream: kind.streams(body) });
  if (!answer.ok) {
    // No origin can report its usage any more: an upper bound of its prompt.
    const { promptTokens } = kind.mostTokens(body, UNKNOWN_CONTEXT_TOKENS);
    const note = silenced ? writeUsageNote({ promptTokens, completionTokens: 0 }) : null;
    return { ...unserved(answer.error), served, ...left, note };
  }
  const { response, ended, origin, tried, refused } = answer.value;
  const note = response.headers.get(USAGE_HEADER);
  outcome.classes = readClasses(response.headers.get(CLASSES_HEADER));
  // A fallback's answer says nothing about how the shadow agrees with the requested adapter.
  const compare = shadow?.compare === true && !outcome.stoodIn && kind.isRepeatable(body);
  const sent =
    shadow === null
      ? response.body
      : runShadow(deps, common, {
          ...{ ...shadow, compare, answer: { response, note, ended } },
          judged: response.ok && !outcome.stoodIn && kind.returnsText ? shadow.judged : null,
        });
  const stream = isEventStream(response.headers);
  // It ends with the request.
  if (stream) trace.begin('stream');
  const kept =
    keeping === null ? sent : keeping.listen(sent, { ok: response.ok && kind.keepsAnswers, stream });
  const headers = responseHeaders(caller, resolution, declared);
  if (assignment !== null) {
    headers.set('x-graft-experiment', assignment.experiment);
    headers.set('x-graft-variant', assignment.variant);
  }
  headers.set('x-graft-origin', origin.id);
  const originPhases = readOriginPhases(response.headers.get('server-timing'));
  headers.set('server-timing', serverTiming(trace, originPhases));
  addAnswerHeaders(headers, response.headers, ignored);
  const degraded = headers.get('x-graft-degraded');
  trace.note({
    ...{ origin: origin.id, tried, originPhases },
    ...(refused === null ? {} : { code: refused }),
    ...(degraded === null ? {} : { degraded }),
  });
  return {
    response: new Response(kept, { status: response.status, headers }),
    note,
    ended,
    served,
    ...left,
  };
}

/**
 * Ends a completion whose client has disconnected.
 * @param baseId the base that was requested.
 * @param most upper bound of its tokens for a given context.
 * @param asked the last origin that was asked, which may have run it.
 */
function whenLeft(
  deps: CompletionDeps,
  baseId: string | null,
  most: (room: number) => TokenCounts,
  asked: AskedOrigin | null,
): Pick<MeteredAnswer, 'cancel'> {
  if (asked === null) return {};
  return {
    async cancel() {
      const tokens = await asked.cancel();
      if (tokens !== null) return { exact: true, tokens };
      const base = await deps.origins.bases.info(baseId);
      return {
        exact: false,
        tokens: most(base.ok ? base.value.context : UNKNOWN_CONTEXT_TOKENS),
      };
    },
  };
}

/** Clients can send any text as a name. */
const shownName = (model: string): string => model.slice(0, MAX_UNKNOWN_NAME).replace(/[^\x20-\x7e]/g, '?');

const exposureOf = (deps: CompletionDeps, { tenant }: Caller, assignment: Assignment): Exposure => {
  const { experiment, version, variant, unit } = assignment;
  return { id: newExposureId(), tenant, experiment, version, variant, unit, at: deps.now() };
};

async function prepare<T extends CompletionBody>(
  deps: CompletionDeps,
  admitted: AdmittedRequest,
  { parse }: Endpoint<T>,
  options: ParseOptions,
) {
  const json = await admitted.read();
  if (!json.ok) return json;
  const taken = takeEdgeFields(json.value);
  if (!taken.ok) return taken;
  const { edge, rest } = taken.value;
  const parsed = parse(rest, options);
  if (!parsed.ok) return parsed;
  const { request: body, ignored } = parsed.value;
  return ok({ body, ignored, edge, rest, resolve: await lookUpModel(deps, body.model) });
}

/**
 * With strict fields, refuses a request with dropped fields. A key's setting is known only after the body has
 * been parsed, so such a request is parsed again.
 */
function strictly<T, Prepared extends { rest: unknown; ignored: readonly string[] }>(
  prepared: Result<Prepared, ApiError>,
  { parse }: { parse: (body: unknown, options: ParseOptions) => Result<Parsed<T>, ApiError> },
): Result<Prepared, ApiError> {
  if (!prepared.ok || prepared.value.ignored.length === 0) return prepared;
  const parsed = parse(prepared.value.rest, { strict: true });
  return parsed.ok ? prepared : parsed;
}

type Answer = Awaited<ReturnType<OriginClient['complete']>>;

/** Errors of the adapter only: another adapter, or none, could run. */
const ABOUT_THE_ADAPTER = new Set(['adapter_unavailable', 'adapter_invalid', 'registry_unavailable']);

/**
 * Runs the resolution or, if its adapters are unavailable, a fallback that the key's policy allows.
 * @returns the first response if no fallback did better.
 */
async function completeWithFallback(
  resolved: Resolved,
  ask: (resolution: Resolution) => Promise<Answer>,
): Promise<{ resolution: Resolution; answer: Answer }> {
  const { resolution } = resolved;
  const answer = await ask(resolution);
  if (!(await lacksAdapter(answer))) return { resolution, answer };
  for (const instead of await resolved.fallbacks()) {
    const other = await ask(instead);
    if (!(await lacksAdapter(other))) {
      await discard(answer);
      return { resolution: instead, answer: other };
    }
    await discard(other);
  }
  return { resolution, answer };
}

async function lacksAdapter(answer: Answer): Promise<boolean> {
  const error = answer.ok ? await refusalOf(answer.value.response) : answer;
  return !error.ok && ABOUT_THE_ADAPTER.has(error.error.code);
}

/** An origin's refusal, read from a copy of the response: its body is small and already received. */
async function refusalOf(response: Response): Promise<Result<null, Pick<ApiError, 'code'>>> {
  const none = { ok: true, value: null } as const;
  if (response.status !== 503 && response.status !== 422) return none;
  try {
    const { error } = (await response.clone().json()) as { error: Pick<ApiError, 'code'> };
    return err(error);
  } catch {
    return none;
  }
}

async function discard(answer: Answer): Promise<void> {
  if (answer.ok) await answer.value.response.body?.cancel();
}

/**
 * Headers that say what served the request.
 * @param declared ids of the bases, if they are configured.
 */
function responseHeaders(
  caller: Caller,
  resolution: Resolution,
  declared: readonly string[] | null,
): Headers {
  const { manifest, chainId, composed, alias, inherited, degraded } = resolution;
  const headers = new Headers({
    'x-graft-adapter': manifest === null ? 'base' : `${manifest.name}@${manifest.version}`,
    'x-graft-chain': chainId,
  });
  const base = resolution.base ?? declared?.[0];
  if (declared !== null && base !== undefined) headers.set('x-graft-base', base);
  if (composed.length > 0) headers.set('x-graft-composed', composed.join(', '));
  if (alias !== null) headers.set('x-graft-alias', alias);
  if (inherited) headers.set('x-graft-inherited', 'true');
  const stale = caller.stale || resolution.stale;
  if (degraded !== null || stale) headers.set('x-graft-degraded', degraded ?? 'stale');
  return headers;
}

/** What usage records; the default base is called `base`. */
function usageName({ manifest, base }: Resolution, declared: readonly string[] | null) {
  if (manifest !== null) return { name: manifest.name, version: manifest.version, base: manifest.base.id };
  const isDefault = base === null || declared === null || base === declared[0];
  const name = isDefault ? 'base' : base;
  return { name, version: 0, base: name };
}

/** The origin's headers that clients get. */
const PASSED_ON = ['content-type', 'retry-after', 'retry-after-ms', 'x-should-retry'];

/**
 * Headers about the answer itself.
 * @param ignored what the edge dropped from the request; the origin reports its own.
 */
function addAnswerHeaders(headers: Headers, origin: Headers, ignored: readonly string[]): void {
  for (const name of PASSED_ON) {
    const value = origin.get(name);
    if (value !== null) headers.set(name, value);
  }
  const all = writeIgnored([...ignored, ...readIgnored(origin.get(IGNORED_HEADER))]);
  if (all !== null) headers.set(IGNORED_HEADER, all);
  // Caches and proxies must neither store nor buffer a stream.
  headers.set('cache-control', 'no-store');
  headers.set('x-accel-buffering', 'no');
}

/** First version of OpenAI's Go client that does not take the blank line after a comment for an event. */
const GO_TAKES_COMMENTS = [3, 43] as const;

/**
 * @param headers of the request.
 * @returns whether its client can parse a stream with comments.
 */
function takesComments(headers: Headers): boolean {
  if (headers.get('x-stainless-lang') !== 'go') return true;
  const version = /^(\d{1,6})\.(\d{1,6})/.exec(headers.get('x-stainless-package-version') ?? '');
  const [major, minor] = GO_TAKES_COMMENTS;
  const has = Number(version?.[1] ?? 0);
  return has > major || (has === major && Number(version?.[2]) >= minor);
}

/** An origin's phases: only short names and milliseconds are passed on. */
const ORIGIN_PHASE = /^([a-z]{1,20});dur=(\d{1,7}(?:\.\d{1,3})?)$/;
const MAX_ORIGIN_PHASES = 8;

/**
 * `Server-Timing`: what the answer waited for, ms. Phases of the edge overlap (the key is read while the name
 * is); the origin's are within `origin`.
 */
export function serverTiming(trace: RequestTrace, ofOrigin: readonly OriginPhase[]): string {
  const own = [...trace.phases()].map(([name, ms]) => `${name};dur=${ms}`);
  const inner = ofOrigin.map(([name, ms]) => `origin-${name};dur=${ms}`);
  return [...own, ...inner].join(', ');
}

/** @param header the origin's `Server-Timing`. */
export const readOriginPhases = (header: string | null): OriginPhase[] =>
  (header ?? '')
    .split(/, */)
    .map((entry) => ORIGIN_PHASE.exec(entry))
    .filter((match) => match !== null)
    .slice(0, MAX_ORIGIN_PHASES)
    .map(([, name = '', ms]) => [name, Number(ms)]);

interface TokenizerDeps extends AuthDeps, ResolveDeps {
  meter: CompletionMeter;
}

type Path = '/tokenize' | '/detokenize' | '/v1/messages/count_tokens' | '/v1/responses/input_tokens';
type Parse = (
  body: unknown,
  options: ParseOptions,
) => Result<Parsed<TokenizeRequest | DetokenizeRequest | CountTokensRequest | ResponseRequest>, ApiError>;

/** Requests that only need a base's tokenizer: an origin answers them, and no tokens are counted. */
export function tokenizerRoutes(deps: TokenizerDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  const add = (path: Path, parse: Parse) => {
    routes.post(path, (context) => ask(deps, context, path, parse));
    routes.all(path, methodNotAllowed('POST'));
  };
  add('/tokenize', withoutEdgeFields(parseTokenize));
  add('/detokenize', parseDetokenize);
  add('/v1/messages/count_tokens', withoutEdgeFields(parseCountTokens));
  add('/v1/responses/input_tokens', withoutEdgeFields(parseInputTokens));
  return routes;
}

/** For a request that is parsed like a completion, whose fields for the edge use no tokens. */
const withoutEdgeFields =
  (parse: Parse): Parse =>
  (body, options) => {
    const taken = takeEdgeFields(body);
    return taken.ok ? parse(taken.value.rest, options) : taken;
  };

/** Whose request it is, and whether its client says if it is traced. */
function noteCaller(
  trace: RequestTrace,
  { tenant, keyId, trust_trace: trusted }: Pick<Caller, 'tenant' | 'keyId' | 'trust_trace'>,
): void {
  trace.note({ tenant, keyId });
  if (trusted === true) trace.trustClient();
}

async function ask(deps: TokenizerDeps, context: AppContext, path: Path, parse: Parse): Promise<Response> {
  const admitted = admitRequest(deps, context.req.raw);
  const trace = context.get('trace');
  const [json, caller] = await Promise.all([admitted.read(), trace.time('key', admitted.asking)]);
  if (!caller.ok) return fail(caller.error);
  const { tenant } = caller.value;
  noteCaller(trace, caller.value);
  const strict = refusesUnknownFields(context.req.raw, caller.value);
  const parsed = json.ok ? parse(json.value, { strict }) : json;
  if (!parsed.ok) {
    const refusal = fail(parsed.error);
    admitted.refused({ tenant, status: refusal.status, names: 0 });
    return refusal;
  }
  const { request, ignored } = parsed.value;
  const { keepAlive, signal: gone } = requestLife(context);
  const requestId = context.get('requestId');
  const base = await baseOf(deps, context, { caller: caller.value, model: request.model ?? null });
  if (!base.ok) {
    const refusal = fail(base.error);
    admitted.refused({ tenant, status: refusal.status, names: 1 });
    return refusal;
  }
  return deps.meter.measure({
    ...{ caller: caller.value, requestId, gone, keepAlive, stages: trace },
    async run(signal) {
      const asked = await deps.origins.complete({
        ...{ path, request, model: 'base', manifest: null, base: base.value },
        ...{ tenant, requestId, signal, keepAlive, parent: trace.span, stages: trace },
      });
      const response = asked.ok ? passedOn(asked.value.response, ignored) : fail(asked.error);
      return { response, note: null, served: null };
    },
  });
}

/** The base that runs `model`; null = the default one. With a single base, the model is not looked up. */
async function baseOf(
  deps: TokenizerDeps,
  context: AppContext,
  { caller, model }: { caller: Caller; model: string | null },
): Promise<Result<string | null, ApiError>> {
  if (model === null || (deps.origins.bases.declared?.length ?? 1) === 1) return ok(null);
  const resolve = await lookUpModel(deps, model);
  const resolved = await resolve(caller, { strict: false, adapters: [] }, requestLife(context));
  return resolved.ok ? ok(resolved.value.resolution.base) : resolved;
}

function passedOn({ body, status, headers }: Response, ignored: readonly string[]): Response {
  const told = new Headers();
  addAnswerHeaders(told, headers, ignored);
  return new Response(body, { status, headers: told });
}
