import { z } from 'zod';
import {
  BaseInfo,
  err,
  ok,
  ResidentList,
  type AdapterManifest,
  type ApiError,
  type OriginRequest,
  type Result,
  type SigningKey,
} from '../protocol/index.ts';
import {
  BASE_INFO_TTL_MS,
  LOAD_BUDGET_MS,
  MAX_LOAD_WAIT_MS,
  MAX_ORIGIN_ANSWER_BYTES,
  ORIGIN_QUESTION_MS,
  REQUEST_BUDGET_MS,
  RETRY_AFTER_MS,
} from './limits.ts';
import { createOriginFetch, type Fetch } from './origin-fetch.ts';
import { createTransfers } from './origin-transfers.ts';
import { rankOrigins, type Origin } from './policy/choose-origin.ts';
import type { BlobStore } from './stores/types.ts';

/** How often one request brings the same adapter to an origin that loses it again at once. */
const MAX_TRANSFERS = 2;

export interface OriginReport {
  id: string;
  /** null when the origin does not answer. */
  base: BaseInfo | null;
  residents: ResidentList | null;
}

export interface CompletionCall {
  path: '/v1/chat/completions' | '/v1/completions';
  /** The client's request, validated. */
  request: Record<string, unknown>;
  model: string;
  /** null = the base model. */
  manifest: AdapterManifest | null;
  tenant: string;
  requestId: string;
  /** Aborts when the client has gone. */
  signal: AbortSignal;
  /** Lets work go on after the response. */
  keepAlive: (work: Promise<unknown>) => void;
}

export interface OriginClient {
  /** Base model of the origins; known from earlier for a while, also when they do not answer. */
  base(): Promise<Result<BaseInfo, ApiError>>;
  report(): Promise<OriginReport[]>;
  /** @returns the origin's response, whose body has not been read; also when it refuses the request. */
  complete(call: CompletionCall): Promise<Result<{ response: Response; origin: Origin }, ApiError>>;
}

const OriginError = z.object({
  error: z.object({
    message: z.string(),
    code: z.string(),
    param: z.string().nullish(),
    missing: z.array(z.string()).optional(),
  }),
});

const unavailable = (
  message = 'The model server cannot be reached at the moment. Please try again.',
): ApiError => ({
  code: 'origin_unavailable',
  message,
  retryAfterMs: RETRY_AFTER_MS,
});

/** Statuses of an origin that are about the client's request, and so are the client's to see. */
const PASSED_ON = new Set([400, 404, 413, 422, 429, 500, 503]);

export function createOriginClient(params: {
  origins: readonly Origin[];
  keys: readonly SigningKey[];
  blobs: BlobStore;
  fetch: Fetch;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): OriginClient {
  const { origins, now, sleep } = params;
  const send = createOriginFetch(params);
  const transfers = createTransfers({ ...params, send });
  let known: { base: BaseInfo; at: number } | null = null;

  async function ask<T>(origin: Origin, path: string, schema: z.ZodType<T>): Promise<T | null> {
    const answer = await send(origin, {
      method: 'GET',
      path,
      signal: AbortSignal.timeout(ORIGIN_QUESTION_MS),
    });
    if (!answer.ok) return null;
    try {
      const text = answer.value.ok ? await answer.value.text() : '';
      if (text === '' || text.length > MAX_ORIGIN_ANSWER_BYTES) return null;
      return schema.parse(JSON.parse(text));
    } catch (error) {
      console.error(
        JSON.stringify({ event: 'odd_origin_answer', origin: origin.id, path, error: String(error) }),
      );
      return null;
    }
  }

  async function base(): Promise<Result<BaseInfo, ApiError>> {
    if (known !== null && now() - known.at < BASE_INFO_TTL_MS) return ok(known.base);
    for (const origin of origins) {
      const found = await ask(origin, '/base', BaseInfo);
      if (found === null) continue;
      known = { base: found, at: now() };
      return ok(found);
    }
    return known === null ? err(unavailable()) : ok(known.base);
  }

  async function complete(call: CompletionCall): ReturnType<OriginClient['complete']> {
    const started = now();
    const loadUntil = started + LOAD_BUDGET_MS;
    const origin = rankOrigins(call.manifest?.name ?? 'base', origins)[0];
    if (origin === undefined) return err(unavailable());
    const chain = (call.manifest?.chain ?? []).map(({ digest, scale }) => ({ digest, scale }));
    const brought = new Map<string, number>();
    const signal = AbortSignal.any([call.signal, AbortSignal.timeout(REQUEST_BUDGET_MS)]);
    for (;;) {
      const body: OriginRequest = {
        request: call.request,
        graft: {
          chain,
          tenant: call.tenant,
          budget_ms: Math.max(1, REQUEST_BUDGET_MS - (now() - started)),
          request_id: call.requestId,
          model: call.model,
        },
      };
      const sent = await send(origin, {
        method: 'POST',
        path: call.path,
        body: JSON.stringify(body),
        signal,
      });
      if (!sent.ok) {
        if (!call.signal.aborted)
          console.error(JSON.stringify({ event: 'origin_unreachable', origin: origin.id, ...sent.error }));
        return err(unavailable());
      }
      const response = sent.value;
      if (response.ok) return ok({ response, origin });
      const text = await response.text();
      const refusal = parseRefusal(text);
      if (response.status !== 409 || refusal === null)
        return passOn({ response, text, known: refusal !== null, origin });
      const waited =
        refusal.code === 'adapter_missing'
          ? await bringAll(origin, refusal.missing ?? [], {
              chain,
              brought,
              loadUntil,
              keepAlive: call.keepAlive,
            })
          : await waitForLoad(response, loadUntil);
      if (!waited.ok) return waited;
      if (call.signal.aborted) return err(unavailable());
    }
  }

  async function bringAll(
    origin: Origin,
    missing: readonly string[],
    state: {
      chain: readonly { digest: string }[];
      brought: Map<string, number>;
      loadUntil: number;
      keepAlive: (work: Promise<unknown>) => void;
    },
  ): Promise<Result<null, ApiError>> {
    // Only what the request named and its sender may use: an origin cannot ask for others' adapters.
    const wanted = [...new Set(missing)].filter((digest) =>
      state.chain.some((member) => member.digest === digest),
    );
    const tooOften = wanted.some((digest) => (state.brought.get(digest) ?? 0) >= MAX_TRANSFERS);
    if (wanted.length === 0 || tooOften || now() >= state.loadUntil) return err(cannotLoad());
    for (const digest of wanted) state.brought.set(digest, (state.brought.get(digest) ?? 0) + 1);
    const results = await Promise.all(
      wanted.map((digest) =>
        transfers.bring(origin, digest, { until: state.loadUntil, keepAlive: state.keepAlive }),
      ),
    );
    return results.find((result) => !result.ok) ?? ok(null);
  }

  async function waitForLoad(response: Response, until: number): Promise<Result<null, ApiError>> {
    const asked = Number(response.headers.get('retry-after-ms') ?? 100);
    const wait = Math.min(Math.max(Number.isFinite(asked) ? asked : 100, 5), MAX_LOAD_WAIT_MS);
    if (now() + wait > until) return err(cannotLoad());
    await sleep(wait);
    return ok(null);
  }

  return {
    base,
    complete,
    report: () =>
      Promise.all(
        origins.map(async (origin) => {
          const [info, residents] = await Promise.all([
            ask(origin, '/base', BaseInfo),
            ask(origin, '/adapters', ResidentList),
          ]);
          return { id: origin.id, base: info, residents };
        }),
      ),
  };
}

const cannotLoad = (): ApiError => ({
  code: 'adapter_unavailable',
  message: 'The adapter could not be loaded in time. Please try again.',
  retryAfterMs: RETRY_AFTER_MS,
});

function parseRefusal(text: string): z.infer<typeof OriginError>['error'] | null {
  try {
    const parsed = OriginError.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data.error : null;
  } catch {
    return null;
  }
}

/** The origin's own words about the request go to the client; its quarrels with us (401, a proxy's page) do not. */
function passOn(params: {
  response: Response;
  text: string;
  known: boolean;
  origin: Origin;
}): Result<{ response: Response; origin: Origin }, ApiError> {
  const { response, text, known, origin } = params;
  if (!known || !PASSED_ON.has(response.status)) {
    console.error(JSON.stringify({ event: 'odd_origin_answer', origin: origin.id, status: response.status }));
    return err(unavailable());
  }
  const headers = new Headers({ 'content-type': 'application/json' });
  for (const name of ['retry-after', 'retry-after-ms', 'x-should-retry']) {
    const value = response.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  return ok({ response: new Response(text, { status: response.status, headers }), origin });
}
