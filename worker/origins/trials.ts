import type { z } from 'zod';
import {
  err,
  EvaluateAnswer,
  ok,
  VerifyAnswer,
  type ApiError,
  type EvaluateRequest,
  type Result,
  type VerifyRequest,
} from '../../protocol/index.ts';
import { originUnavailable } from '../errors.ts';
import type { AdapterTrial, AdapterTrials } from '../registry/registry-deps.ts';
import { DEADLINE_GRACE_MS, MAX_ORIGIN_ANSWER_BYTES } from './limits.ts';
import { REQUEST_BUDGET_MS, RETRY_AFTER_MS } from '../limits.ts';
import { logLine, type LogField } from '../log.ts';
import type { Exchange, Exchanged } from './exchange.ts';
import { readOriginText } from './signed-fetch.ts';
import type { Origin, Pools } from './choose-origin.ts';

/** Asks origins about adapters before anybody uses them. */
export function createTrials(params: {
  pools: Pools;
  /** In which order to ask those of a base for an adapter of this name. */
  order: (name: string, base: string) => readonly Origin[];
  exchange: Exchange;
  /** For one question to one origin. */
  verifyTimeoutMs: number;
}): AdapterTrials {
  const { pools, order, exchange, verifyTimeoutMs } = params;

  async function verifyAt(
    origin: Origin,
    trial: AdapterTrial,
    expected?: VerifyRequest['expected'],
  ): Promise<Result<VerifyAnswer, ApiError>> {
    const { chain, signal } = trial;
    const body: VerifyRequest = { chain: [...chain], ...(expected === undefined ? {} : { expected }) };
    const exchanged = await exchange(origin, {
      // In the query: an origin of before refuses a body with a field that it does not know.
      path: `${pathOf(trial, 'verify')}?tenant=${encodeURIComponent(trial.tenant)}`,
      chain,
      body: () => body,
      signal: () => AbortSignal.any([signal, AbortSignal.timeout(verifyTimeoutMs)]),
      gone: signal,
      keepAlive: trial.keepAlive,
    });
    const answer = await answerOf(origin, exchanged, VerifyAnswer);
    return answer.ok && answer.value.digest !== chain.at(-1)?.digest ? err(originUnavailable()) : answer;
  }

  return {
    async verify(trial) {
      let failure = originUnavailable();
      for (const origin of order(trial.name, trial.base)) {
        const answer = await verifyAt(origin, trial);
        // A store that does not answer would not answer for the next origin either.
        if (answer.ok || answer.error.code === 'registry_unavailable' || trial.signal.aborted) return answer;
        failure = answer.error;
      }
      return err(failure);
    },

    verifyEverywhere: (trial, expected) =>
      Promise.all(
        pools
          .of(trial.base)
          .map(async (origin) => ({ id: origin.id, answer: await verifyAt(origin, trial, expected) })),
      ),

    async evaluate(trial, rows) {
      const { chain, tenant, signal } = trial;
      const body: EvaluateRequest = { chain: [...chain], tenant, budget_ms: REQUEST_BUDGET_MS, rows };
      const until = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_BUDGET_MS + DEADLINE_GRACE_MS)]);
      let failure = originUnavailable();
      for (const origin of order(trial.name, trial.base)) {
        const exchanged = await exchange(origin, {
          path: pathOf(trial, 'evaluate'),
          chain,
          body: () => body,
          signal: () => until,
          gone: signal,
          keepAlive: trial.keepAlive,
        });
        const answer = await answerOf(origin, exchanged, EvaluateAnswer);
        if (answer.ok && answer.value.rows.length === rows.length) return answer;
        if (answer.ok) continue;
        if (answer.error.code !== 'origin_unavailable' || signal.aborted) return answer;
        failure = answer.error;
      }
      return err(failure);
    },
  };
}

const pathOf = ({ chain }: AdapterTrial, what: string): string =>
  `/adapters/${chain.at(-1)?.digest ?? ''}/${what}`;

/** Whatever is not the answer or the origin's word about the adapter or its load is an origin that is not there. */
async function answerOf<T>(
  origin: Origin,
  exchanged: Exchanged,
  schema: z.ZodType<T>,
): Promise<Result<T, ApiError>> {
  if (exchanged.kind === 'failed' || exchanged.kind === 'unreachable') return err(exchanged.error);
  const odd = (detail: Record<string, LogField>): Result<never, ApiError> => {
    logLine('odd_origin_answer', { origin: origin.id, ...detail });
    return err(originUnavailable());
  };
  if (exchanged.kind === 'refused') {
    const { refusal, response } = exchanged;
    const known = refusal === null ? null : asApiError(refusal, response);
    return known === null ? odd({ status: response.status, code: refusal?.code }) : err(known);
  }
  try {
    const text = await readOriginText(exchanged.response);
    if (text === null) return odd({ reason: `more than ${MAX_ORIGIN_ANSWER_BYTES} bytes` });
    return ok(schema.parse(JSON.parse(text)));
  } catch (error) {
    return odd({ reason: String(error).slice(0, 300) });
  }
}

function asApiError(
  { code, message, reason }: { code: string; message: string; reason?: string | undefined },
  response: Response,
): ApiError | null {
  const asked = Number(response.headers.get('retry-after-ms') ?? NaN);
  const retryAfterMs = Number.isFinite(asked) ? asked : RETRY_AFTER_MS;
  switch (code) {
    case 'queue_full':
    case 'deadline_exceeded':
    case 'adapter_unavailable':
      return { code, message, retryAfterMs };
    case 'adapter_invalid':
      return { code, message, ...(reason === undefined ? {} : { reason }) };
    default:
      return null;
  }
}
