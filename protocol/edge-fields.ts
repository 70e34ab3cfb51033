/** Fields of a completion request that are meant for the edge; the origin never sees them. */
import { z } from 'zod';
import { type ApiError, err, ok, type Result } from './api-error.ts';
import { MAX_COMPOSED, MAX_COMPOSED_SCALE } from './limits.ts';
import { checkBody, isMap } from './parse-body.ts';

const ComposedAdapter = z.strictObject({
  /** A name, or `name@version`. */
  name: z.string().min(1).max(512),
  scale: z.number().min(-MAX_COMPOSED_SCALE).max(MAX_COMPOSED_SCALE).nullish(),
});

export const EdgeFields = z.strictObject({
  /** The name itself or nothing: no ancestor stands in for it. */
  strict: z.boolean().nullish(),
  /** Further adapters, added to the model's chain for this request. */
  adapters: z.array(ComposedAdapter).max(MAX_COMPOSED).nullish(),
});

export interface EdgeRequest {
  strict: boolean;
  adapters: { name: string; scale: number }[];
}

/**
 * Takes the edge's fields out of a body.
 * @param body parsed JSON. @returns the fields, and the body without them.
 */
export function takeEdgeFields(body: unknown): Result<{ edge: EdgeRequest; rest: unknown }, ApiError> {
  if (!isMap(body)) return ok({ edge: { strict: false, adapters: [] }, rest: body });
  if (!('strict' in body) && !('adapters' in body))
    return ok({ edge: { strict: false, adapters: [] }, rest: body });
  const { strict, adapters, ...rest } = body;
  const parsed = checkBody(EdgeFields, { strict, adapters });
  if (!parsed.ok) return parsed;
  const wanted = (parsed.value.adapters ?? []).map(({ name, scale }) => ({ name, scale: scale ?? 1 }));
  const repeated = wanted.findIndex(({ name }, i) => wanted.slice(0, i).some((other) => other.name === name));
  if (repeated !== -1)
    return err({
      code: 'invalid_request',
      message: `Invalid value for 'adapters[${repeated}].name': it is named twice; give one scale for both.`,
      param: `adapters[${repeated}].name`,
    });
  return ok({ edge: { strict: parsed.value.strict ?? false, adapters: wanted }, rest });
}
