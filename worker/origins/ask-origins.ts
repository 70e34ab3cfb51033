/** Small calls to origins: cancel a request, return a file's parts, report figures, drop adapters. */
import { sha256Hex } from '../../protocol/identity.ts';
import {
  RequestUsage,
  cancelPath,
  OriginFigures,
  DropAnswer,
  type DropRequest,
} from '../../protocol/origin-wire.ts';
import { ORIGIN_QUESTION_MS, CANCEL_RETRY_MS, ORIGIN_FILE_MS, DROP_TIMEOUT_MS } from './limits.ts';
import { logLine } from '../log.ts';
import { type OriginFetch, readOriginText } from './connection.ts';
import type { Origin } from './routing.ts';
import type { TokenCounts } from '../metering/ports.ts';
import type { HeldFiles } from './ports.ts';
import type { OriginDrops } from '../erasure/ports.ts';

/** Cancels requests whose clients have disconnected, each at its origin. */
export function createCancellation(params: { send: OriginFetch; sleep: (ms: number) => Promise<void> }) {
  const { send, sleep } = params;

  async function cancel(origin: Origin, id: string): Promise<RequestUsage | null> {
    const signal = AbortSignal.timeout(ORIGIN_QUESTION_MS);
    const sent = await send(origin, { method: 'POST', path: cancelPath(id), signal });
    try {
      const text = sent.ok ? await readOriginText(sent.value) : null;
      return sent.ok && sent.value.ok && text !== null ? RequestUsage.parse(JSON.parse(text)) : null;
    } catch {
      return null;
    }
  }

  async function again(origin: Origin, id: string): Promise<RequestUsage | null> {
    await sleep(CANCEL_RETRY_MS);
    return cancel(origin, id);
  }

  /**
   * @param id the edge's own id, in the request's path.
   * @returns its usage; null if the origin does not have it, or keeps running it. Never throws.
   */
  return async (origin: Origin, id: string, requestId: string): Promise<TokenCounts | null> => {
    const usage = (await cancel(origin, id)) ?? (await again(origin, id));
    if (usage !== null && usage.state !== 'running')
      return { promptTokens: usage.prompt_tokens, completionTokens: usage.completion_tokens };
    logLine('usage_unknown', {
      origin: origin.id,
      request_id: requestId,
      reason: usage === null ? 'no answer' : 'still running',
    });
    return null;
  };
}

export type Cancellation = ReturnType<typeof createCancellation>;

/** Asks one origin after the other for bytes that the store has lost. */
export function createHeldFiles(params: { origins: readonly Origin[]; send: OriginFetch }): HeldFiles {
  const { origins, send } = params;

  async function ask(origin: Origin, path: string, bytes: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const sent = await send(origin, { method: 'GET', path, signal: AbortSignal.timeout(ORIGIN_FILE_MS) });
    if (!sent.ok) return null;
    if (sent.value.ok && sent.value.body !== null) return readExactly(sent.value.body, bytes);
    await sent.value.body?.cancel();
    return null;
  }

  return {
    async part(digest, { begin, bytes, sha256 }) {
      const path = `/adapters/${digest}/file?begin=${begin}&end=${begin + bytes}`;
      for (const origin of origins) {
        // A broken connection or a slow response counts as not having it.
        const found = await ask(origin, path, bytes).catch(() => null);
        if (found === null) continue;
        if ((await sha256Hex(found)) === sha256) return found;
        logLine('odd_origin_answer', { origin: origin.id, path, reason: 'the wrong bytes' });
      }
      return null;
    },
  };
}

/** @returns null if the length differs; does not read beyond it. */
export async function readExactly(
  body: ReadableStream<Uint8Array>,
  bytes: number,
): Promise<Uint8Array<ArrayBuffer> | null> {
  const whole = new Uint8Array(bytes);
  let at = 0;
  for await (const chunk of body) {
    if (at + chunk.length > bytes) return null;
    whole.set(chunk, at);
    at += chunk.length;
  }
  return at === bytes ? whole : null;
}

const SAMPLE = /^(graft_[a-z_]+)(?:\{[^}]*\})? (\S+)$/gm;

/**
 * Reads the figures that the console shows from an origin's metrics.
 * @param text in Prometheus' text format; metrics with labels are summed over them.
 * @throws ZodError if one is missing or not a number.
 */
export function readOriginFigures(text: string): OriginFigures {
  const sums = new Map<string, number>();
  for (const [, name = '', value] of text.matchAll(SAMPLE))
    sums.set(name, (sums.get(name) ?? 0) + Number(value));
  const at = (name: string): number | undefined => sums.get(`graft_${name}`);
  const timed = (name: string) => ({ count: at(`${name}_count`), seconds: at(`${name}_sum`) });
  return OriginFigures.parse({
    started_at: (at('start_time_seconds') ?? Number.NaN) * 1000,
    rows_running: at('rows_running'),
    requests_waiting: at('requests_waiting'),
    requests_loading: at('requests_loading'),
    slots: at('slots'),
    kv_tokens: at('kv_tokens'),
    kv_capacity_tokens: at('kv_capacity_tokens'),
    memory_bytes: at('resident_memory_bytes'),
    adapters_resident: at('adapters_resident'),
    adapter_bytes: at('adapter_bytes'),
    adapter_budget_bytes: at('adapter_budget_bytes'),
    prompt_tokens: at('prompt_tokens_total'),
    completion_tokens: at('completion_tokens_total'),
    requests_finished: at('requests_finished_total') ?? 0,
    adapter_loads: at('adapter_loads_total') ?? 0,
    adapter_evictions: at('adapter_evictions_total'),
    first_token: timed('time_to_first_token_seconds'),
    next_token: timed('time_per_output_token_seconds'),
    decode: { steps: at('batch_rows_count'), rows: at('batch_rows_sum') },
  });
}

/** Has origins drop adapters for good. */
export function createOriginDrops(params: { origins: readonly Origin[]; send: OriginFetch }): OriginDrops {
  const { origins, send } = params;
  return {
    ids: origins.map(({ id }) => id),
    async drop(id, digests) {
      const origin = origins.find((one) => one.id === id);
      if (origin === undefined) return 'is no longer in ORIGINS';
      const body: DropRequest = { digests: [...digests] };
      const sent = await send(origin, {
        method: 'POST',
        path: '/adapters/drop',
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(DROP_TIMEOUT_MS),
      });
      if (!sent.ok) return `did not answer: ${sent.error.reason}`;
      try {
        const text = await readOriginText(sent.value);
        if (!sent.value.ok) return `answered ${sent.value.status}`;
        DropAnswer.parse(JSON.parse(text ?? ''));
        return null;
      } catch {
        return 'gave an unexpected answer';
      }
    },
  };
}
