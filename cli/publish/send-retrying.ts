import { setTimeout as wait } from 'node:timers/promises';
import { responseError, type ApiClient } from '../api-client.ts';
import { CliError } from '../cli-error.ts';

/** Tries in all: what takes longer than these is not a hiccup, and the command can be repeated. */
const MAX_TRIES = 4;
const FIRST_WAIT_MS = 500;
/** A server that wants a longer pause gets none: its error says how long it is. */
const MAX_WAIT_MS = 30_000;

/** Busy, or broken for the moment; the same request may work. */
const PASSING = [429, 500, 502, 503, 504];

export interface Retrying {
  readonly signal?: AbortSignal | undefined;
  /** Told before each pause. @param reason why, such as `503`. */
  readonly onWait?: (ms: number, reason: string) => void;
  /** Given by tests. */
  readonly sleep?: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
}

const sleepWell = async (ms: number, signal: AbortSignal | undefined): Promise<void> => {
  await wait(ms, undefined, signal === undefined ? {} : { signal }).catch((error: unknown) => {
    throw signal?.reason ?? error;
  });
};

/** @returns milliseconds that the server asks for, or null. */
function askedWait(response: Response): number | null {
  const exact = Number(response.headers.get('retry-after-ms') ?? NaN);
  if (Number.isFinite(exact)) return Math.max(0, exact);
  // The other form of the header, a date, is not one that our servers write.
  const seconds = Number(response.headers.get('retry-after') ?? NaN);
  return Number.isFinite(seconds) ? Math.max(0, 1_000 * seconds) : null;
}

/**
 * Sends a request that may be repeated safely, a few times if need be.
 * @returns the successful response. @throws CliError the last failure.
 */
export async function sendRetrying(
  client: ApiClient,
  what: string,
  pathAndQuery: string,
  init: RequestInit,
  retrying: Retrying = {},
): Promise<Response> {
  const { signal, onWait, sleep = sleepWell } = retrying;
  const withSignal = signal === undefined ? init : { ...init, signal };
  for (let tries = 1; ; tries++) {
    const last = tries === MAX_TRIES;
    let pause = FIRST_WAIT_MS * 2 ** (tries - 1);
    let reason: string;
    try {
      const response = await client.sendAccepting(what, pathAndQuery, withSignal, last ? [] : PASSING);
      if (response.ok) return response;
      const asked = askedWait(response);
      if (asked !== null && asked > MAX_WAIT_MS) throw await responseError(response, what);
      pause = Math.max(pause, asked ?? 0);
      reason = `the server answered ${response.status}`;
      await response.body?.cancel();
    } catch (error) {
      if (last || signal?.aborted || !(error instanceof CliError) || error.code !== 'no_answer') throw error;
      reason = 'no answer';
    }
    onWait?.(pause, reason);
    await sleep(pause, signal);
  }
}
