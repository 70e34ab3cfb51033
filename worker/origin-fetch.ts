import {
  err,
  ok,
  sha256Hex,
  sign,
  SIGNATURE_HEADER,
  type Result,
  type SigningKey,
} from '../protocol/index.ts';
import { readOriginText } from './origin-text.ts';
import type { Origin } from './policy/choose-origin.ts';

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
  signal?: AbortSignal;
}

/**
 * Sends signed requests to origins, which come from configuration alone; never follows a redirect. The first key signs;
 * an origin that does not have it yet, or not any more, gets the next ones, so that keys can be rotated in any order.
 */
export function createOriginFetch(params: { keys: readonly SigningKey[]; fetch: Fetch; now: () => number }) {
  const { keys } = params;
  if (keys.length === 0) throw new Error('no origin key');
  /** Origin's id -> index of the key that it has. */
  const accepted = new Map<string, number>();

  async function sendOnce(
    key: SigningKey,
    origin: Origin,
    call: OriginCall,
  ): Promise<Result<Response, Unreachable>> {
    const url = new URL(origin.url + call.path);
    const bodyHash = call.bodyHash ?? (await sha256Hex(typeof call.body === 'string' ? call.body : ''));
    const pathAndQuery = url.pathname + url.search;
    const signature = await sign(
      key,
      { originId: origin.id, method: call.method, pathAndQuery, bodyHash },
      params.now(),
    );
    const headers: Record<string, string> = { [SIGNATURE_HEADER]: signature };
    if (call.body !== undefined) headers['content-type'] = call.contentType ?? 'application/json';
    if (call.requestId !== undefined) headers['x-request-id'] = call.requestId;
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

  return async (origin: Origin, call: OriginCall): Promise<Result<Response, Unreachable>> => {
    const first = accepted.get(origin.id) ?? 0;
    for (let turn = 0; ; turn += 1) {
      const index = (first + turn) % keys.length;
      const sent = await sendOnce(keys[index] as SigningKey, origin, call);
      const isLast = turn === keys.length - 1 || typeof (call.body ?? '') !== 'string';
      if (sent.ok && sent.value.status === 401 && !isLast && (await lacksKey(sent.value))) continue;
      if (sent.ok && sent.value.status !== 401) accepted.set(origin.id, index);
      return sent;
    }
  };
}

/** Leaves the response readable. */
async function lacksKey(response: Response): Promise<boolean> {
  try {
    const text = await readOriginText(response.clone());
    const { error } = JSON.parse(text ?? '') as { error?: { reason?: unknown } };
    return error?.reason === 'unknown_key';
  } catch {
    return false;
  }
}

export type OriginFetch = ReturnType<typeof createOriginFetch>;
