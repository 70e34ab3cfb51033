import type { z } from 'zod';
import { err, MAX_ADMIN_BODY_BYTES, ok, type ApiError, type Result } from '../../protocol/index.ts';
import { readJson } from './read-body.ts';

export function parseInput<T>(schema: z.ZodType<T>, value: unknown): Result<T, ApiError> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  const param = [...(issue?.path ?? []), ...(unknown === undefined ? [] : [unknown])].map(String).join('.');
  return err({
    code: 'invalid_request',
    message:
      param === '' ? `Invalid input: ${issue?.message}.` : `Invalid value for '${param}': ${issue?.message}.`,
    param: param === '' ? null : param,
  });
}

/** JSON body of a request. @param how.mayBeEmpty no body at all stands for an empty object. */
export async function readInput<T>(
  request: Request,
  schema: z.ZodType<T>,
  { maxBytes = MAX_ADMIN_BODY_BYTES, mayBeEmpty = false }: { maxBytes?: number; mayBeEmpty?: boolean } = {},
): Promise<Result<T, ApiError>> {
  const json = await readJson(request, maxBytes, mayBeEmpty ? { whenEmpty: {} } : {});
  return json.ok ? parseInput(schema, json.value) : json;
}
