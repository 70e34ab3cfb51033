/** Everything the edge asks of origins: completions, trials of adapters, bases, figures, pins, files. */
import { type ApiError, type Result, err, ok } from '../../protocol/api-error.ts';
import {
  LOAD_HEADER,
  BaseInfo,
  type OriginFigures,
  ResidentList,
  EvaluateAnswer,
  VerifyAnswer,
  type EvaluateRequest,
  type VerifyRequest,
} from '../../protocol/origin-wire.ts';
import type { SigningKey } from '../../protocol/signature.ts';
import type { AdapterTrials, AdapterTrial } from '../registry/ports.ts';
import {
  HEADERS_PATIENCE_MS,
  ORIGIN_QUESTION_MS,
  ORIGIN_VERIFY_MS,
  PULSE_MS,
  SHADOW_MAX_FILL,
  BASE_INFO_TTL_MS,
  DEADLINE_GRACE_MS,
  MAX_ORIGIN_ANSWER_BYTES,
} from './limits.ts';
import { REQUEST_BUDGET_MS } from '../limits.ts';
import { logLine, type LogField } from '../log.ts';
import {
  createComplete,
  type CompletionCall,
  type Served,
  createExchange,
  createHangDetector,
  asApiError,
  parseRefusal,
  textOf,
  type Exchange,
  type Exchanged,
} from './send.ts';
import { createOriginFetch, type Fetch, readOriginText } from './connection.ts';
import { readOriginFigures, createCancellation, createHeldFiles, createOriginDrops } from './ask-origins.ts';
import {
  createOriginHealth,
  createRouting,
  chooseOrigins,
  type Origin,
  createPools,
  type Pools,
} from './routing.ts';
import { createOriginJobs, type OriginJobs } from './jobs.ts';
import { createPoolKnowledge } from './pool-knowledge.ts';
import { createOriginPins, createPrefetch } from './pins.ts';
import { createTransfers } from './transfers.ts';
import type { Bases, HeldFiles, OriginPins, OriginWarmth } from './ports.ts';
import type { BlobStore } from '../blobs/ports.ts';
import type { OriginDrops } from '../erasure/ports.ts';
import { baseUnserved, originUnavailable } from '../errors.ts';
import type { z } from 'zod';

export interface OriginReport {
  id: string;
  /** Id of the base that the configuration assigns to it; null = unassigned. */
  configuredBase: string | null;
  /** null if the origin does not respond. */
  base: BaseInfo | null;
  /** Why it does not respond, if known. */
  reason: string | null;
  residents: ResidentList | null;
  /** null also if they were not requested. */
  figures: OriginFigures | null;
}

export interface OriginClient extends AdapterTrials {
  readonly bases: Bases;
  /** @param figures also requests them. */
  report(figures?: boolean): Promise<OriginReport[]>;
  /** Each origin's figures; null if it does not respond. */
  measure(): Promise<{ id: string; figures: OriginFigures | null }[]>;
  readonly pins: OriginPins;
  readonly warmth: OriginWarmth;
  readonly files: HeldFiles;
  readonly drops: OriginDrops;
  readonly jobs: OriginJobs;
  /**
   * Does any origin of the base use less than {@link SHADOW_MAX_FILL} of its rows, as far as this isolate
   * knows?
   */
  hasRoom(base: string | null): boolean;
  /** Asks one origin after the other until one serves the request, or rejects its content. */
  complete(call: CompletionCall): Promise<Result<Served, ApiError>>;
}

export function createOriginClient(params: {
  origins: readonly Origin[];
  /** Id of the base for requests that name none; default: the first origin's. */
  defaultBase?: string | null;
  keys: readonly SigningKey[];
  blobs: BlobStore;
  fetch: Fetch;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  /** Default {@link ORIGIN_VERIFY_MS}. */
  verifyTimeoutMs?: number;
  /** Default {@link HEADERS_PATIENCE_MS}. */
  patienceMs?: number;
  /** Default {@link PULSE_MS}. */
  pulseMs?: number;
  /** Default {@link REQUEST_BUDGET_MS}. */
  budgetMs?: number;
}): OriginClient {
  const { origins, now, patienceMs = HEADERS_PATIENCE_MS, pulseMs = PULSE_MS } = params;
  const send = createOriginFetch(params);
  const health = createOriginHealth({ now });
  const pool = createPoolKnowledge({ origins, health, now });
  const transfers = createTransfers({ ...params, send });
  const exchange = createExchange({ ...params, send, transfers, pool });
  const pools = createPools(origins, params.defaultBase);
  const order = (name: string, base: string) =>
    chooseOrigins({ name, spread: name, origins: pools.of(base), stateOf: health.stateOf });
  const hangDetector = createHangDetector({ health, exchange, send, now, patienceMs, pulseMs });
  /** For long calls that are not completions: an origin that hangs is skipped, also by later requests. */
  const watched: Exchange = async (origin, call) => {
    const exchanged = await hangDetector.exchange(origin, call);
    if (exchanged.kind === 'unreachable' && exchanged.hangs === true) health.failed(origin);
    return exchanged;
  };
  const warmth = createPrefetch({ pools, order, exchange: watched, now });

  async function ask<T>(
    origin: Origin,
    path: string,
    read: (text: string) => T,
    onRefused: (reason: string) => void = () => undefined,
  ): Promise<T | null> {
    const answer = await send(origin, {
      method: 'GET',
      path,
      signal: AbortSignal.timeout(ORIGIN_QUESTION_MS),
    });
    if (!answer.ok) {
      health.failed(origin);
      onRefused(answer.error.reason);
      return null;
    }
    const refusal = answer.value.ok ? null : parseRefusal(await textOf(answer.value));
    if (refusal !== null) onRefused(refusal.message);
    if (refusal?.code === 'invalid_signature') {
      const { reason, message } = refusal;
      logLine('origin_refused_signature', { origin: origin.id, reason, message });
    }
    if (answer.value.ok) health.answered(origin, answer.value.headers.get(LOAD_HEADER));
    try {
      const text = answer.value.ok ? await readOriginText(answer.value) : null;
      if (text === null || text === '') return null;
      return read(text);
    } catch (error) {
      logLine('odd_origin_answer', { origin: origin.id, path, reason: String(error).slice(0, 300) });
      return null;
    }
  }

  return {
    bases: createBases({
      ...{ pools, now },
      ask: (origin) => ask(origin, '/base', readBase),
      isEjected: (origin) => health.stateOf(origin).ejected,
    }),
    complete: createComplete({
      ...{ pools, pool, health, now },
      routing: createRouting({
        health,
        told: pool.demandOf,
        prefetchAt: warmth.at,
        now,
        log: (event, fields) => logLine(event, fields, 'info'),
      }),
      hangDetector,
      cancel: createCancellation({ ...params, send }),
      budgetMs: params.budgetMs ?? REQUEST_BUDGET_MS,
    }),
    ...createTrials({
      ...{ pools, order, exchange: watched },
      verifyTimeoutMs: params.verifyTimeoutMs ?? ORIGIN_VERIFY_MS,
    }),
    hasRoom: (base) =>
      pools
        .of(base)
        .map(health.stateOf)
        .some(({ load, slots, ejected }) => !ejected && load < slots * SHADOW_MAX_FILL),
    pins: createOriginPins({ pools, exchange: watched, send }),
    warmth,
    files: createHeldFiles({ origins, send }),
    drops: createOriginDrops({ origins, send }),
    jobs: createOriginJobs({ pools, send, transfers, now }),
    measure: () =>
      Promise.all(
        origins.map(async (origin) => ({
          id: origin.id,
          figures: await ask(origin, '/metrics', readOriginFigures),
        })),
      ),
    report: (figures = false) =>
      Promise.all(
        origins.map(async (origin) => {
          let reason: string | null = null;
          const [info, residents, measured] = await Promise.all([
            ask(origin, '/base', readBase, (said) => (reason = said)),
            ask(origin, '/adapters', (text) => ResidentList.parse(JSON.parse(text))),
            figures ? ask(origin, '/metrics', readOriginFigures) : null,
          ]);
          return {
            id: origin.id,
            configuredBase: origin.base ?? null,
            base: info,
            reason,
            residents,
            figures: measured,
          };
        }),
      ),
  };
}

const readBase = (text: string): BaseInfo => BaseInfo.parse(JSON.parse(text));

/** Caches each pool's description of its base for a while. */
function createBases(params: {
  pools: Pools;
  /** @returns null if the origin does not respond. */
  ask: (origin: Origin) => Promise<BaseInfo | null>;
  isEjected: (origin: Origin) => boolean;
  now: () => number;
}): Bases {
  const { pools, ask, isEjected, now } = params;
  const { declared } = pools;
  const known = new Map<string, { base: BaseInfo; at: number }>();
  const askingUntil = new Map<string, number>();

  async function askPool(key: string, origins: readonly Origin[]): Promise<BaseInfo | null> {
    for (const origin of [...origins].sort((a, b) => Number(isEjected(a)) - Number(isEjected(b)))) {
      const found = await ask(origin);
      if (found === null) continue;
      if (origin.base !== undefined && found.id !== origin.base) {
        logLine('wrong_base', { origin: origin.id, configured: origin.base, serves: found.id });
        continue;
      }
      known.set(key, { base: found, at: now() });
      return found;
    }
    return null;
  }

  async function info(id: string | null): Promise<Result<BaseInfo, ApiError>> {
    const origins = pools.of(id);
    if (origins.length === 0) return err(baseUnserved(id ?? '', declared ?? []));
    const key = declared === null ? '' : (id ?? declared[0] ?? '');
    const before = known.get(key);
    // When it expires, one request asks; the others use the old one.
    if (before !== undefined && (now() - before.at < BASE_INFO_TTL_MS || now() < (askingUntil.get(key) ?? 0)))
      return ok(before.base);
    askingUntil.set(key, now() + ORIGIN_QUESTION_MS);
    const found = (await askPool(key, origins)) ?? before?.base;
    return found === undefined ? err(originUnavailable()) : ok(found);
  }

  return {
    declared,
    info,
    async ids() {
      if (declared !== null) return ok(declared);
      const found = await info(null);
      return found.ok ? ok([found.value.id]) : found;
    },
  };
}

/** Tries adapters at origins before they are used. */
function createTrials(params: {
  pools: Pools;
  /** Order in which to ask the base's origins for an adapter of this name. */
  order: (name: string, base: string) => readonly Origin[];
  exchange: Exchange;
  /** For one call to one origin. */
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
        // If the store does not respond, other origins cannot get the file either.
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

/**
 * Anything except a valid answer, or an error about the adapter or the load, counts as origin unavailable.
 */
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
