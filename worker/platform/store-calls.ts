/** How stores are called: for a while, and again after a pause. */
import { StoreUnavailable, type StoreName } from './ports.ts';

/** @returns what `answer` gives. @throws Error when it takes longer than `ms`; it goes on, unheard. */
export async function withTimeout<T>(answer: Promise<T>, ms: number): Promise<T> {
  let give: (error: Error) => void = () => undefined;
  const late = new Promise<never>((_, reject) => (give = reject));
  const timer = setTimeout(() => give(new Error(`no answer within ${ms} ms`)), ms);
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

export interface WritePacing {
  pauseMs: number;
  tries: number;
  sleep: (ms: number) => Promise<void>;
}

/** KV's and R2's words for "the same key was written less than a second ago" (R2's code is 10058). */
const isRateLimited = (error: unknown): boolean =>
  error instanceof Error && /429|too many|10058/i.test(error.message);

/**
 * Writes, and again after a pause when the key was written within the last second.
 * @throws StoreUnavailable
 */
export async function writePaced(
  store: StoreName,
  pacing: WritePacing,
  write: () => Promise<unknown>,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await write();
      return;
    } catch (error) {
      if (attempt >= pacing.tries || !isRateLimited(error)) throw new StoreUnavailable(store, error);
      await pacing.sleep(pacing.pauseMs);
    }
  }
}
