import { Hono } from 'hono';
import {
  ok,
  parseCountTokens,
  parseInputTokens,
  takeEdgeFields,
  parseDetokenize,
  parseTokenize,
  type ApiError,
  type CountTokensRequest,
  type ResponseRequest,
  type DetokenizeRequest,
  type Parsed,
  type ParseOptions,
  type Result,
  type TokenizeRequest,
} from '../../protocol/index.ts';
import { refusesUnknownFields, comeIn, type DoorDeps } from '../access/authenticate.ts';
import { fail, methodNotAllowed, requestLife, type AppContext, type AppEnv } from '../http/request-scope.ts';
import type { Caller } from '../access/ports.ts';
import type { CompletionMeter } from '../metering/ports.ts';
import { tellOfAnswer } from './answer.ts';
import { lookUpModel, type ResolveDeps } from './resolve-model.ts';

export interface TokenizerDeps extends DoorDeps, ResolveDeps {
  meter: CompletionMeter;
}

type Path = '/tokenize' | '/detokenize' | '/v1/messages/count_tokens' | '/v1/responses/input_tokens';
type Parse = (
  body: unknown,
  options: ParseOptions,
) => Result<Parsed<TokenizeRequest | DetokenizeRequest | CountTokensRequest | ResponseRequest>, ApiError>;

/** What a base's tokenizer alone answers: an origin does it, and no tokens are counted for it. */
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

/** Of what a completion takes as well: its fields for the edge have no tokens. */
const withoutEdgeFields =
  (parse: Parse): Parse =>
  (body, options) => {
    const taken = takeEdgeFields(body);
    return taken.ok ? parse(taken.value.rest, options) : taken;
  };

async function ask(deps: TokenizerDeps, context: AppContext, path: Path, parse: Parse): Promise<Response> {
  const visit = comeIn(deps, context.req.raw);
  const [json, caller] = await Promise.all([visit.read(), visit.asking]);
  if (!caller.ok) return fail(caller.error);
  const { tenant, keyId } = caller.value;
  context.get('trace').note({ tenant, keyId });
  const strict = refusesUnknownFields(context.req.raw, caller.value);
  const parsed = json.ok ? parse(json.value, { strict }) : json;
  if (!parsed.ok) {
    const refusal = fail(parsed.error);
    visit.refused({ tenant, status: refusal.status, names: 0 });
    return refusal;
  }
  const { request, ignored } = parsed.value;
  const { keepAlive, signal: gone } = requestLife(context);
  const requestId = context.get('requestId');
  const base = await baseOf(deps, context, { caller: caller.value, model: request.model ?? null });
  if (!base.ok) {
    const refusal = fail(base.error);
    visit.refused({ tenant, status: refusal.status, names: 1 });
    return refusal;
  }
  return deps.meter.measure({
    ...{ caller: caller.value, requestId, gone, keepAlive },
    async run(signal) {
      const asked = await deps.origins.complete({
        ...{ path, request, model: 'base', manifest: null, base: base.value },
        ...{ tenant, requestId, signal, keepAlive, parent: context.get('trace').parent },
      });
      const response = asked.ok ? passedOn(asked.value.response, ignored) : fail(asked.error);
      return { response, note: null, served: null };
    },
  });
}

/** The base that `model` runs on; null = the default one. Where there is only one, the model is not looked up. */
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
  tellOfAnswer(told, headers, ignored);
  return new Response(body, { status, headers: told });
}
