import type { AskedOrigin } from '../origins/complete.ts';
import { Hono } from 'hono';
import {
  errorStatus,
  isEventStream,
  ok,
  takeEdgeFields,
  writeUsageNote,
  USAGE_HEADER,
  type ApiError,
  type EdgeRequest,
  type Parsed,
  type ParseOptions,
  type Result,
} from '../../protocol/index.ts';
import {
  fail,
  keepAlive,
  methodNotAllowed,
  requestLife,
  type AppContext,
  type AppEnv,
} from '../http/request-scope.ts';
import type { AnswerTokens, Exposure, ExposureTokens } from '../experiments/exposure-token.ts';
import { endUser, USER_HEADER, takePart, type Part, type TakePartDeps } from '../experiments/take-part.ts';
import type { ExperimentSink } from '../experiments/ports.ts';
import type { CompletionMeter, MeteredAnswer, TokenCounts } from '../metering/ports.ts';
import type { Caller } from '../access/ports.ts';
import type { Keeping, PromptKeeper } from '../prompts/ports.ts';
import { MAX_UNKNOWN_NAME, UNKNOWN_CONTEXT_TOKENS } from './limits.ts';
import {
  CHAT,
  EMBEDDING,
  MESSAGES,
  RESPONSE,
  TEXT,
  type CompletionBody,
  type CompletionKind,
} from './kinds.ts';
import {
  readOriginPhases,
  serverTiming,
  takesComments,
  labels,
  tellOfAnswer,
  usageName,
  answerOrStandIn,
} from './answer.ts';
import { enterGate } from '../access/gates.ts';
import { recordBeginning, recordEnding, type Taking } from '../experiments/outcome.ts';
import { recordEnded } from '../traffic/parts.ts';
import type { TrafficSink } from '../traffic/ports.ts';
import { comeIn, type DoorDeps, type Visit, refusesUnknownFields } from '../access/authenticate.ts';
import { runShadow, type ShadowDeps } from '../experiments/run-shadow.ts';
import { lookUpModel, type PendingModel, type ResolveDeps } from './resolve-model.ts';

export interface CompletionDeps extends ResolveDeps, TakePartDeps, DoorDeps, ShadowDeps {
  meter: CompletionMeter;
  trafficSink: TrafficSink;
  promptKeeper: PromptKeeper;
  exposureTokens: ExposureTokens;
  answerTokens: AnswerTokens;
  experimentSink: ExperimentSink;
}

/** `POST /v1/chat/completions`, `POST /v1/completions`, `POST /v1/responses`, `POST /v1/messages`, `POST /v1/embeddings`. */
export function completionRoutes(deps: CompletionDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  const add = <T extends CompletionBody>(kind: CompletionKind<T>) => {
    routes.post(kind.path, (context) => complete(deps, context, kind));
    routes.all(kind.path, methodNotAllowed('POST'));
  };
  add(CHAT);
  add(TEXT);
  add(RESPONSE);
  add(MESSAGES);
  add(EMBEDDING);
  return routes;
}

async function complete<T extends CompletionBody>(
  deps: CompletionDeps,
  context: AppContext,
  kind: CompletionKind<T>,
): Promise<Response> {
  const request = context.req.raw;
  const trace = context.get('trace');
  // The key is looked up while the body arrives and the name is looked up; it speaks first all the same.
  const visit = comeIn(deps, request);
  const asking = trace.time('key', visit.asking);
  const lenient = await prepare(deps, visit, kind, { strict: refusesUnknownFields(request, null) });
  const caller = await asking;
  if (!caller.ok) return fail(caller.error);
  const prepared = refusesUnknownFields(request, caller.value) ? strictly(lenient, kind) : lenient;
  const { tenant, keyId } = caller.value;
  trace.note({ tenant, keyId });
  if (!prepared.ok) {
    const refusal = fail(prepared.error);
    visit.refused({ tenant, status: refusal.status, names: 0 });
    recordEnded(deps, context, { code: prepared.error.code, status: refusal.status });
    return refusal;
  }
  const { body } = prepared.value;
  const keeping = deps.promptKeeper.open(caller.value, body, (work) => keepAlive(context, work));
  const taking: Taking = { part: null, stoodIn: false, cold: false };
  const response = await deps.meter.measure({
    caller: caller.value,
    requestId: context.get('requestId'),
    gone: request.signal,
    takesComments: takesComments(request.headers),
    keepAlive: (work) => keepAlive(context, work),
    run: (signal) =>
      serve(deps, context, { kind, caller: caller.value, ...prepared.value, signal, taking, keeping }),
    onEnd(ending) {
      trace.finish(ending);
      recordEnding(deps, context, taking, ending);
      const how = { ...ending, cold: taking.cold, kept: keeping !== null };
      const ended = recordEnded(deps, context, how);
      keeping?.end(ended);
    },
    onRefused: (error) => recordEnded(deps, context, { code: error.code, status: errorStatus(error) }),
  });
  if (isEventStream(response.headers)) recordBeginning(deps, context, taking);
  const names = 1 + prepared.value.edge.adapters.length;
  visit.refused({ tenant, status: response.status, names });
  return response;
}

/** Beside the question to the caller's quota, which may abort `signal`. */
async function serve<T extends CompletionBody>(
  deps: CompletionDeps,
  context: AppContext,
  call: {
    kind: CompletionKind<T>;
    caller: Caller;
    body: T;
    ignored: readonly string[];
    edge: EdgeRequest;
    resolve: PendingModel;
    signal: AbortSignal;
    taking: Taking;
    /** null = nothing of it is kept. */
    keeping: Keeping | null;
  },
): Promise<MeteredAnswer> {
  const { kind, caller, body, ignored, edge, resolve, signal, taking, keeping } = call;
  const trace = context.get('trace');
  const unserved = (error: ApiError): MeteredAnswer => {
    trace.note({ code: error.code });
    return { response: fail(error), note: null, served: null };
  };
  const participant = {
    caller,
    requestId: trace.ownId,
    user: endUser({
      ...{ safetyIdentifier: undefined, user: undefined, ...kind.endUser(body) },
      header: context.req.header(USER_HEADER),
    }),
    header: (name: string) => context.req.header(name) ?? null,
  };
  const finding = async () => {
    const entered = edge.adapters.length === 0 ? null : enterGate(deps.gates.composing, caller.tenant);
    if (entered?.ok === false) return entered;
    const resolved = await resolve(caller, edge, requestLife(context)).finally(() => entered?.value());
    if (!resolved.ok) return resolved;
    if (!kind.joins) return ok({ resolved: resolved.value, part: null, shadow: null });
    return ok(await takePart(deps, participant, resolved.value));
  };
  const found = await trace.time('name', finding());
  if (!found.ok) {
    if (found.error.code === 'model_not_found') trace.note({ unknownName: shownName(body.model) });
    return unserved(found.error);
  }
  const { resolved, part, shadow } = found.value;
  taking.part = part;
  if (part !== null) trace.note({ experiment: part.experiment, variant: part.variant });
  const common = {
    ...{ path: kind.path, request: body, model: body.model, requestId: context.get('requestId') },
    parent: trace.parent,
    keepAlive: (work: Promise<unknown>) => keepAlive(context, work),
  };
  let asked: AskedOrigin | null = null;
  let silenced = false;
  const exposure = part?.counted === true ? exposureOf(deps, caller, part) : null;
  const answerText = exposure === null ? null : await deps.answerTokens.issue(exposure);
  const { resolution, answer } = await answerOrStandIn(resolved, (asks) =>
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
        // What stands in is not what would be rated.
        ...(answerText !== null && asks === resolved.resolution ? { answerText } : {}),
        onAsked: (last) => (asked = last),
        onCold: () => (taking.cold = true),
        onSilenced: () => (silenced = true),
      }),
    ),
  );
  const used = usedBy(deps, resolution.base, (room) => kind.mostTokens(body, room), asked);
  taking.stoodIn = resolution !== resolved.resolution;
  const { declared } = deps.origins.bases;
  const served = usageName(resolution, declared);
  trace.note({ ...served, chainId: resolution.chainId, stream: kind.streams(body) });
  if (!answer.ok) {
    // No origin is left that could say what it used: the most that its prompt can have.
    const { promptTokens } = kind.mostTokens(body, UNKNOWN_CONTEXT_TOKENS);
    const note = silenced ? writeUsageNote({ promptTokens, completionTokens: 0 }) : null;
    return { ...unserved(answer.error), served, ...used, note };
  }
  const { response, ended, origin, tried, refused } = answer.value;
  const note = response.headers.get(USAGE_HEADER);
  // What stood in for an adapter says nothing of how another one agrees with it.
  const compare = shadow?.compare === true && !taking.stoodIn && kind.isRepeatable(body);
  const sent =
    shadow === null
      ? response.body
      : runShadow(deps, common, {
          ...{ ...shadow, compare, answer: { response, note } },
          judged: response.ok && !taking.stoodIn ? shadow.judged : null,
        });
  const stream = isEventStream(response.headers);
  const kept = keeping === null ? sent : keeping.listen(sent, { ok: response.ok, stream, text: kind.speaks });
  const headers = labels(caller, resolution, declared);
  if (part !== null) {
    headers.set('x-graft-experiment', part.experiment);
    headers.set('x-graft-variant', part.variant);
    if (exposure !== null && response.ok && !taking.stoodIn)
      headers.set('x-graft-exposure', await deps.exposureTokens.issue(exposure));
  }
  headers.set('x-graft-origin', origin.id);
  const originPhases = readOriginPhases(response.headers.get('server-timing'));
  headers.set('server-timing', serverTiming(trace, originPhases));
  tellOfAnswer(headers, response.headers, ignored);
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
    ...used,
  };
}

/**
 * @param baseId the base that it was asked of. @param most that it can use, with so much room.
 * @param asked the origin that was asked last, and so the one that may have run it.
 */
function usedBy(
  deps: CompletionDeps,
  baseId: string | null,
  most: (room: number) => TokenCounts,
  asked: AskedOrigin | null,
): Pick<MeteredAnswer, 'used'> {
  if (asked === null) return {};
  return {
    async used() {
      const tokens = await asked.used();
      if (tokens !== null) return { exact: true, tokens };
      const base = await deps.origins.bases.info(baseId);
      return {
        exact: false,
        tokens: most(base.ok ? base.value.context : UNKNOWN_CONTEXT_TOKENS),
      };
    },
  };
}

/** Anybody may write anything there. */
const shownName = (model: string): string => model.slice(0, MAX_UNKNOWN_NAME).replace(/[^\x20-\x7e]/g, '?');

const exposureOf = (deps: CompletionDeps, { tenant }: Caller, part: Part): Exposure => {
  const { experiment, version, variant, unit } = part;
  const id = deps.exposureTokens.newId();
  return { id, tenant, experiment, version, variant, unit, at: deps.now() };
};

async function prepare<T extends CompletionBody>(
  deps: CompletionDeps,
  visit: Visit,
  { parse }: CompletionKind<T>,
  options: ParseOptions,
) {
  const json = await visit.read();
  if (!json.ok) return json;
  const taken = takeEdgeFields(json.value);
  if (!taken.ok) return taken;
  const { edge, rest } = taken.value;
  const parsed = parse(rest, options);
  if (!parsed.ok) return parsed;
  const { request: body, ignored } = parsed.value;
  return ok({ body, ignored, edge, rest, resolve: await lookUpModel(deps, body.model) });
}

/** Of a key that wants it, which is known only when the body has been read: where anything was left out, once more. */
function strictly<T, Prepared extends { rest: unknown; ignored: readonly string[] }>(
  prepared: Result<Prepared, ApiError>,
  { parse }: { parse: (body: unknown, options: ParseOptions) => Result<Parsed<T>, ApiError> },
): Result<Prepared, ApiError> {
  if (!prepared.ok || prepared.value.ignored.length === 0) return prepared;
  const parsed = parse(prepared.value.rest, { strict: true });
  return parsed.ok ? prepared : parsed;
}
