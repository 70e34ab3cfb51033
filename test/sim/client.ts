/** A client of the simulated edge: asks, waits, gives up, and reads what comes. */
import type { World } from './world/world.ts';
import type { Life } from './world/time.ts';

/** What came of one request. */
export type Answered =
  | { kind: 'answer'; status: number; headers: Headers; text: string; json: unknown; at: number }
  /** The connection broke, or it took too long: nobody knows what the edge did. */
  | { kind: 'lost'; why: string; at: number };

/** After this a client gives up, ms. OpenAI's wait ten minutes; the edge's own budget is as long. */
const PATIENCE_MS = 620_000;

export interface Ask {
  method?: string;
  path: string;
  key?: string;
  body?: object | Uint8Array<ArrayBuffer>;
  headers?: Record<string, string>;
  /** Gives up after this time, ms. */
  leaveAfterMs?: number;
  /** Reads nothing for so long after each piece, ms. */
  slowMs?: number;
  /** Called with each piece of the body. */
  onPiece?: (text: string) => void;
  reliable?: boolean;
}

export async function ask(world: World, life: Life, given: Ask): Promise<Answered> {
  const { time } = world;
  const controller = new AbortController();
  const stop = time.after(life, given.leaveAfterMs ?? PATIENCE_MS, () =>
    controller.abort(new Error(given.leaveAfterMs === undefined ? 'no answer within ten minutes' : 'left')),
  );
  const bytes = given.body instanceof Uint8Array;
  const headers = new Headers(given.headers);
  if (given.key !== undefined) headers.set('authorization', `Bearer ${given.key}`);
  if (given.body !== undefined && !headers.has('content-type'))
    headers.set('content-type', bytes ? 'application/octet-stream' : 'application/json');
  const body =
    given.body === undefined
      ? undefined
      : bytes
        ? (given.body as Uint8Array<ArrayBuffer>)
        : JSON.stringify(given.body);
  try {
    const response = await world.ask(
      life,
      given.path,
      {
        method: given.method ?? (given.body === undefined ? 'GET' : 'POST'),
        headers,
        signal: controller.signal,
        ...(body === undefined ? {} : { body }),
      },
      given.reliable === true ? { reliable: true } : {},
    );
    const decoder = new TextDecoder();
    let text = '';
    const reader = response.body?.getReader();
    controller.signal.addEventListener('abort', () => void reader?.cancel().catch(() => undefined), {
      once: true,
    });
    while (reader !== undefined) {
      const { done, value } = await reader.read();
      if (controller.signal.aborted) throw controller.signal.reason as Error;
      if (done) break;
      const piece = decoder.decode(value as Uint8Array, { stream: true });
      text += piece;
      given.onPiece?.(piece);
      if (given.slowMs !== undefined) await time.sleep(life, given.slowMs);
    }
    return {
      kind: 'answer',
      status: response.status,
      headers: response.headers,
      text,
      json: parsed(text),
      at: time.now,
    };
  } catch (error) {
    return { kind: 'lost', why: error instanceof Error ? error.message : String(error), at: time.now };
  } finally {
    stop();
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** The error's code; null = it is none of graft's. */
export function codeOf(answered: Answered): string | null {
  if (answered.kind !== 'answer') return null;
  const { error } = (answered.json ?? {}) as { error?: { code?: unknown } };
  return typeof error?.code === 'string' ? error.code : null;
}
