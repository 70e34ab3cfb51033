import { err, ok, type Result } from '../../protocol/api-error.ts';
import { sha256Hex } from '../../protocol/identity.ts';
import { TRACEPARENT_HEADER } from '../../protocol/origin-wire.ts';
import {
  readStartId,
  sign,
  SIGNATURE_HEADER,
  START_HEADER,
  type SigningKey,
} from '../../protocol/signature.ts';
import type { Origin } from './choose-origin.ts';
import { MAX_ORIGIN_ANSWER_BYTES } from './limits.ts';

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** The origin cannot be reached, or something in front of it answered instead. */
export interface Unreachable {
  kind: 'unreachable';
  reason: string;
}

export interface OriginCall {
  method: 'GET' | 'POST' | 'PUT';
  /** Below the origin's URL, as it will stand on the request line. */
  path: string;
  body?: string | ReadableStream<Uint8Array>;
  /** sha256 of the body, hex; needed for a stream. */
  bodyHash?: string;
  contentType?: string;
  /** For the origin's log. */
  requestId?: string;
  /** For its log and its engine's trace. */
  traceparent?: string;
  signal?: AbortSignal;
}

/**
 * Sends signed requests to origins, which come from configuration alone; never follows a redirect. The first key signs;
 * an origin that does not have it yet, or not any more, gets the next ones, so that keys can be rotated in any order. One
 * that started a moment ago by a clock that is ahead of ours says which start it is, and gets a signature for that.
 */
export function createOriginFetch(params: { keys: readonly SigningKey[]; fetch: Fetch; now: () => number }) {
  const { keys } = params;
  if (keys.length === 0) throw new Error('no origin key');
  /** Origin's id -> index of the key that it has. */
  const accepted = new Map<string, number>();
  /** Origin's id -> the start that signatures for it are for. */
  const starts = new Map<string, string>();

  async function sendOnce(
    key: SigningKey,
    origin: Origin,
    call: OriginCall,
    startId: string | undefined,
  ): Promise<Result<Response, Unreachable>> {
    const url = new URL(origin.url + call.path);
    const bodyHash = call.bodyHash ?? (await sha256Hex(typeof call.body === 'string' ? call.body : ''));
    const pathAndQuery = url.pathname + url.search;
    const signature = await sign(
      key,
      { originId: origin.id, method: call.method, pathAndQuery, bodyHash, startId },
      params.now(),
    );
    const headers: Record<string, string> = { [SIGNATURE_HEADER]: signature };
    if (call.body !== undefined) headers['content-type'] = call.contentType ?? 'application/json';
    if (call.requestId !== undefined) headers['x-request-id'] = call.requestId;
    if (call.traceparent !== undefined) headers[TRACEPARENT_HEADER] = call.traceparent;
    try {
      const response = await params.fetch(url.href, {
        method: call.method,
        headers,
        redirect: 'manual',
        ...(call.body === undefined ? {} : { body: call.body }),
        ...(call.signal === undefined ? {} : { signal: call.signal }),
      });
      if (response.status < 300 || response.status >= 400) return ok(response);
      await response.body?.cancel();
      return err({ kind: 'unreachable', reason: `answered ${response.status}, a redirect` });
    } catch (error) {
      return err({ kind: 'unreachable', reason: error instanceof Error ? error.message : 'unknown error' });
    }
  }

  /** Signs for the origin's present start, once more when that is another one than we thought. */
  async function sendForStart(
    key: SigningKey,
    origin: Origin,
    call: OriginCall,
    isRepeatable: boolean,
  ): Promise<{ sent: Result<Response, Unreachable>; reason: string | null }> {
    for (let tries = 1; ; tries += 1) {
      const startId = starts.get(origin.id);
      const sent = await sendOnce(key, origin, call, startId);
      if (!sent.ok || sent.value.status !== 401) return { sent, reason: null };
      const { reason, response } = await readRefusal(sent.value);
      const told = reason === 'before_start' ? readStartId(sent.value.headers.get(START_HEADER)) : null;
      if (told === null) return { sent: ok(response), reason };
      starts.set(origin.id, told);
      if (!isRepeatable || tries > 1) return { sent: ok(response), reason };
    }
  }

  return async (origin: Origin, call: OriginCall): Promise<Result<Response, Unreachable>> => {
    const first = accepted.get(origin.id) ?? 0;
    const isRepeatable = typeof (call.body ?? '') === 'string';
    for (let turn = 0; ; turn += 1) {
      const index = (first + turn) % keys.length;
      const { sent, reason } = await sendForStart(keys[index] as SigningKey, origin, call, isRepeatable);
      const isLast = turn === keys.length - 1 || !isRepeatable;
      if (reason === 'unknown_key' && !isLast) continue;
      if (sent.ok && sent.value.status !== 401) accepted.set(origin.id, index);
      return sent;
    }
  };
}

/** Why an origin refuses a signature; null when it does not say. @returns also the refusal, to be read once more. */
async function readRefusal(refused: Response): Promise<{ reason: string | null; response: Response }> {
  // Not from a clone: one of two readers that stops does not stop the other.
  const text = (await readOriginText(refused).catch(() => null)) ?? '';
  const headers = { 'content-type': refused.headers.get('content-type') ?? 'text/plain' };
  const response = new Response(text, { status: refused.status, headers });
  try {
    const { error } = JSON.parse(text) as { error?: { reason?: unknown } };
    return { reason: typeof error?.reason === 'string' ? error.reason : null, response };
  } catch {
    return { reason: null, response };
  }
}

export type OriginFetch = ReturnType<typeof createOriginFetch>;

/**
 * Reads what an origin says beside completions, which is small. An origin that was taken over may go on without an end:
 * the memory of an isolate is everybody's.
 * @returns null when there is more than `limit` bytes; the rest is not read. @throws when the connection breaks.
 */
export async function readOriginText(
  response: Response,
  limit: number = MAX_ORIGIN_ANSWER_BYTES,
): Promise<string | null> {
  if (response.body === null) return '';
  const decoder = new TextDecoder();
  let text = '';
  let size = 0;
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    size += chunk.length;
    // Leaving the loop cancels the stream.
    if (size > limit) return null;
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
