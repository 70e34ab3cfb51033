import { type ApiError, badShape, err, MAX_JSON_DEPTH, ok, type Result } from '../../protocol/index.ts';

/** The worker's envelope is one level around a client's body. */
const MAX_DEPTH = MAX_JSON_DEPTH + 1;

/** @returns the whole body; reading stops at `limit`, whatever the length header says or does not say. */
export async function readBody(
  request: Request,
  limit: number,
): Promise<Result<Uint8Array<ArrayBuffer>, ApiError>> {
  const tooLarge: ApiError = { code: 'request_too_large', message: `The body exceeds ${limit} bytes.` };
  if (Number(request.headers.get('content-length') ?? 0) > limit) return err(tooLarge);
  if (request.body === null) return ok(new Uint8Array(0));
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > limit) return err(tooLarge);
      chunks.push(chunk);
    }
  } catch {
    return err({ code: 'invalid_request', message: 'The body was cut off.', param: null });
  }
  const body = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return ok(body);
}

export function parseJson(body: Uint8Array): Result<unknown, ApiError> {
  const message = badShape(body, MAX_DEPTH);
  if (message !== null) return err({ code: 'invalid_request', message, param: null });
  try {
    return ok(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body)) as unknown);
  } catch {
    return err({ code: 'invalid_request', message: 'The body is not JSON in UTF-8.', param: null });
  }
}
