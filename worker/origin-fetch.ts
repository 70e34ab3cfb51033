import {
  err,
  ok,
  sha256Hex,
  sign,
  SIGNATURE_HEADER,
  type Result,
  type SigningKey,
} from '../protocol/index.ts';
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
  signal?: AbortSignal;
}

/** Sends signed requests to origins, which come from configuration alone; never follows a redirect. */
export function createOriginFetch(params: { keys: readonly SigningKey[]; fetch: Fetch; now: () => number }) {
  const key = params.keys[0];
  if (key === undefined) throw new Error('no origin key');
  return async (origin: Origin, call: OriginCall): Promise<Result<Response, Unreachable>> => {
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
  };
}

export type OriginFetch = ReturnType<typeof createOriginFetch>;
