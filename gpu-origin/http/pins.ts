import type { Context } from 'hono';
import {
  errorBody,
  errorResponse,
  KeepPinsRequest,
  PinRequest,
  PrefetchRequest,
  type LoadAnswer,
  type ResidentList,
} from '../../protocol/index.ts';
import { parseBody } from './adapters.ts';
import type { OriginEnv, Services } from './origin-context.ts';

/**
 * `POST /adapters/pins` {@link PinRequest}: loads adapters and keeps them in memory until they are left out of a `PUT`.
 * 409 `adapter_missing` or `adapter_loading` before anything is done, so that the edge brings them, as for a completion;
 * then 200 `{results: [{digest, ok, error?}]}` when all are ready or have failed.
 */
export async function pinAdapters(c: Context<OriginEnv>, services: Services): Promise<Response> {
  const body = parseBody(c, PinRequest);
  if (!body.ok) return errorResponse(body.error);
  return load(services, body.value.digests, true);
}

/**
 * `POST /adapters/prefetch` {@link PrefetchRequest}: the same without a pin. `{results: []}` when it is for an adapter's
 * place and that one is not in memory.
 */
export async function prefetchAdapters(c: Context<OriginEnv>, services: Services): Promise<Response> {
  const body = parseBody(c, PrefetchRequest);
  if (!body.ok) return errorResponse(body.error);
  const { digests, if_resident: instead } = body.value;
  const isResident = ({ digest, state }: ResidentList['adapters'][number]) =>
    digest === instead && state === 'ready';
  if (instead !== undefined && !services.engine.residents().adapters.some(isResident))
    return Response.json({ results: [] } satisfies LoadAnswer);
  return load(services, digests, false);
}

async function load({ engine }: Services, digests: readonly string[], pinned: boolean): Promise<Response> {
  const refusal = await engine.check(digests);
  if (refusal !== null) return errorResponse(refusal);
  const results = await Promise.all(
    digests.map(async (digest) => {
      const loaded = await engine.prefetch(digest, { pinned });
      return { digest, ok: loaded.ok, ...(loaded.ok ? {} : errorBody(loaded.error)) };
    }),
  );
  return Response.json({ results } satisfies LoadAnswer);
}

/** `PUT /adapters/pins` {@link KeepPinsRequest} -> `{unpinned}`: how many others lost their pin. Loads nothing. */
export function keepPins(c: Context<OriginEnv>, services: Services): Response {
  const body = parseBody(c, KeepPinsRequest);
  if (!body.ok) return errorResponse(body.error);
  return Response.json({ unpinned: services.engine.keepPinned(new Set(body.value.digests)) });
}
