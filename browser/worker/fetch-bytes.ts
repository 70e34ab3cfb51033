/** Fetches what has a known size, as it comes. */
import { GraftError, type Problem } from '../errors.ts';

/** Tries of one file, and the time between them, ms. */
const TRIES = 3;
const PAUSE_MS = 1_000;

/** A response that repeating will not change. */
export class Refused extends Error {
  constructor(readonly response: Response) {
    super(`${response.status} ${response.statusText}`.trim());
  }
}

/**
 * @param params.bytes exactly so many. @param params.check of all of them.
 * @param params.failed what is thrown once all tries are used up. @throws Refused for 4xx
 */
export async function fetchBytes(params: {
  request: () => Promise<Response>;
  bytes: number;
  check: (bytes: Uint8Array<ArrayBuffer>) => Promise<boolean>;
  onBytes: (done: number) => void;
  failed: (reason: string) => Problem;
  signal: AbortSignal;
}): Promise<Uint8Array<ArrayBuffer>> {
  const { request, bytes, check, onBytes, failed, signal } = params;
  let reason = '';
  for (let tries = 0; tries < TRIES; tries++) {
    signal.throwIfAborted();
    if (tries > 0) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * tries));
    try {
      const response = await request();
      if (response.status >= 400 && response.status < 500) throw new Refused(response);
      if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
      const got = await readAll(response, bytes, onBytes);
      if (await check(got)) return got;
      reason = 'its sha256 is another one';
    } catch (error) {
      if (error instanceof Refused || signal.aborted) throw error;
      reason = error instanceof Error ? error.message : String(error);
    }
    onBytes(0);
  }
  throw new GraftError(failed(reason));
}

/** @throws Error when there are more or fewer. */
async function readAll(
  response: Response,
  bytes: number,
  onBytes: (done: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const all = new Uint8Array(bytes);
  let done = 0;
  const reader = response.body!.getReader();
  for (;;) {
    const { value, done: ended } = await reader.read();
    if (ended) break;
    if (done + value.length > bytes) {
      await reader.cancel();
      throw new Error(`it has more than ${bytes} bytes`);
    }
    all.set(value, done);
    done += value.length;
    onBytes(done);
  }
  if (done < bytes) throw new Error(`it ended after ${done} of ${bytes} bytes`);
  return all;
}
