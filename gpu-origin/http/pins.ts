import type { Context } from 'hono';
import { errorBody, errorResponse, KeepPinsRequest, PinRequest } from '../../protocol/index.ts';
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
  const { digests } = body.value;
  const refusal = await services.engine.check(digests);
  if (refusal !== null) return errorResponse(refusal);
  const results = await Promise.all(
    digests.map(async (digest) => {
      const loaded = await services.engine.prefetch(digest, { pinned: true });
      return { digest, ok: loaded.ok, ...(loaded.ok ? {} : errorBody(loaded.error)) };
    }),
  );
  return Response.json({ results });
}

/** `PUT /adapters/pins` {@link KeepPinsRequest} -> `{unpinned}`: how many others lost their pin. Loads nothing. */
export function keepPins(c: Context<OriginEnv>, services: Services): Response {
  const body = parseBody(c, KeepPinsRequest);
  if (!body.ok) return errorResponse(body.error);
  return Response.json({ unpinned: services.engine.keepPinned(new Set(body.value.digests)) });
}
