import { badShape, err, ok, type ApiError, type Result } from '../../protocol/index.ts';

const tooLarge = (limit: number): Result<never, ApiError> =>
  err({ code: 'request_too_large', message: `The body is larger than ${limit} bytes.` });

/** A body up to this many times too large is read and dropped: many clients see an answer only after they have sent. */
const DRAIN_FACTOR = 4;

/** Reads a body of at most `limit` bytes, whether or not its length was announced. */
export async function readBody(
  request: Request,
  limit: number,
): Promise<Result<Uint8Array<ArrayBuffer>, ApiError>> {
  const announced = Number(request.headers.get('content-length') ?? 0);
  if (announced > limit * DRAIN_FACTOR) return tooLarge(limit);
  if (request.body === null) return ok(new Uint8Array(0));
  let chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of request.body as ReadableStream<Uint8Array>) {
      size += chunk.length;
      // Leaving the loop cancels the stream.
      if (size > limit * DRAIN_FACTOR) break;
      if (size > limit) chunks = [];
      else chunks.push(chunk);
    }
  } catch {
    // The client went away, or sent chunks that are none: no bug of ours, and mostly nobody there to read this.
    return err({ code: 'invalid_request', message: 'The body broke off before its end.', param: null });
  }
  if (size > limit) return tooLarge(limit);
  const body = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.length;
  }
  return ok(body);
}

/** @param whenEmpty what no body at all stands for, where it may be left out. */
export async function readJson(
  request: Request,
  limit: number,
  whenEmpty?: object,
): Promise<Result<unknown, ApiError>> {
  const body = await readBody(request, limit);
  if (!body.ok) return body;
  if (body.value.length === 0 && whenEmpty !== undefined) return ok(whenEmpty);
  const message = badShape(body.value);
  if (message !== null) return err({ code: 'invalid_request', message, param: null });
  try {
    return ok(
      JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(body.value)) as unknown,
    );
  } catch {
    return err({ code: 'invalid_request', message: 'The body is not valid JSON in UTF-8.', param: null });
  }
}
