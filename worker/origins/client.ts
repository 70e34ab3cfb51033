import {
  BaseInfo,
  err,
  LOAD_HEADER,
  ok,
  type OriginFigures,
  ResidentList,
  type ApiError,
  type Result,
  type SigningKey,
} from '../../protocol/index.ts';
import { originUnavailable } from '../errors.ts';
import type { AdapterTrials } from '../registry/registry-deps.ts';
import {
  BASE_INFO_TTL_MS,
  HEADERS_PATIENCE_MS,
  ORIGIN_QUESTION_MS,
  ORIGIN_VERIFY_MS,
  PULSE_MS,
  SHADOW_MAX_FILL,
} from './limits.ts';
import { logLine } from '../log.ts';
import { createComplete, type CompletionCall, type Served } from './complete.ts';
import { createExchange } from './exchange.ts';
import { createOriginFetch, type Fetch } from './signed-fetch.ts';
import { readOriginFigures } from './figures.ts';
import { createOriginHealth } from './health.ts';
import { createOriginPins } from './pins.ts';
import { createPrefetch } from './prefetch.ts';
import { readOriginText } from './read-text.ts';
import { createTransfers } from './transfers.ts';
import { createTrials } from './trials.ts';
import { createUsageQuestion } from './ask-usage.ts';
import { chooseOrigins, type Origin } from './choose-origin.ts';
import { createRouting } from './route-completion.ts';
import { createWatch } from './watch-exchange.ts';
import { createHeldFiles } from './held-files.ts';
import type { HeldFiles, OriginPins, OriginWarmth } from './ports.ts';
import type { BlobStore } from '../blobs/ports.ts';

export interface OriginReport {
  id: string;
  /** null when the origin does not answer. */
  base: BaseInfo | null;
  residents: ResidentList | null;
  /** null also when they were not asked for. */
  figures: OriginFigures | null;
}

export type { AskedOrigin, CompletionCall, Served } from './complete.ts';

const readBase = (text: string): BaseInfo => BaseInfo.parse(JSON.parse(text));

export interface OriginClient extends AdapterTrials {
  /** Base model of the origins; known from earlier for a while, also when they do not answer. */
  base(): Promise<Result<BaseInfo, ApiError>>;
  /** @param figures ask for them too. */
  report(figures?: boolean): Promise<OriginReport[]>;
  readonly pins: OriginPins;
  readonly warmth: OriginWarmth;
  readonly files: HeldFiles;
  /** Has any origin, as far as is known here, less than {@link SHADOW_MAX_FILL} of its rows taken? */
  hasRoom(): boolean;
  /** Asks one origin after the other until one serves, or refuses what the request says. */
  complete(call: CompletionCall): Promise<Result<Served, ApiError>>;
}

export function createOriginClient(params: {
  origins: readonly Origin[];
  keys: readonly SigningKey[];
  blobs: BlobStore;
  fetch: Fetch;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  /** {@link ORIGIN_VERIFY_MS} unless given. */
  verifyTimeoutMs?: number;
  /** {@link HEADERS_PATIENCE_MS} unless given. */
  patienceMs?: number;
  /** {@link PULSE_MS} unless given. */
  pulseMs?: number;
}): OriginClient {
  const { origins, now, patienceMs = HEADERS_PATIENCE_MS, pulseMs = PULSE_MS } = params;
  const send = createOriginFetch(params);
  const health = createOriginHealth({ now });
  const exchange = createExchange({ ...params, send, transfers: createTransfers({ ...params, send }) });
  const order = (name: string) => chooseOrigins({ name, spread: name, origins, stateOf: health.stateOf });
  const warmth = createPrefetch({ origins, order, exchange, now });
  let known: { base: BaseInfo; at: number } | null = null;
  let askingUntil = 0;
  const isEjected = (origin: Origin): number => Number(health.stateOf(origin).ejected);

  async function ask<T>(origin: Origin, path: string, read: (text: string) => T): Promise<T | null> {
    const answer = await send(origin, {
      method: 'GET',
      path,
      signal: AbortSignal.timeout(ORIGIN_QUESTION_MS),
    });
    if (!answer.ok) {
      health.failed(origin);
      return null;
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

  async function base(): Promise<Result<BaseInfo, ApiError>> {
    // When it is old, one request asks; the others go on with what is known.
    if (known !== null && (now() - known.at < BASE_INFO_TTL_MS || now() < askingUntil)) return ok(known.base);
    askingUntil = now() + ORIGIN_QUESTION_MS;
    for (const origin of [...origins].sort((a, b) => isEjected(a) - isEjected(b))) {
      const found = await ask(origin, '/base', readBase);
      if (found === null) continue;
      known = { base: found, at: now() };
      return ok(found);
    }
    return known === null ? err(originUnavailable()) : ok(known.base);
  }

  return {
    base,
    complete: createComplete({
      ...{ origins, health, now },
      routing: createRouting({ health, prefetchAt: warmth.at, now }),
      watch: createWatch({ health, exchange, send, now, patienceMs, pulseMs }),
      askUsage: createUsageQuestion({ ...params, send }),
    }),
    ...createTrials({
      origins,
      ...{ order, exchange },
      verifyTimeoutMs: params.verifyTimeoutMs ?? ORIGIN_VERIFY_MS,
    }),
    hasRoom: () =>
      origins
        .map(health.stateOf)
        .some(({ load, slots, ejected }) => !ejected && load < slots * SHADOW_MAX_FILL),
    pins: createOriginPins({ origins, exchange, send }),
    warmth,
    files: createHeldFiles({ origins, send }),
    report: (figures = false) =>
      Promise.all(
        origins.map(async (origin) => {
          const [info, residents, measured] = await Promise.all([
            ask(origin, '/base', readBase),
            ask(origin, '/adapters', (text) => ResidentList.parse(JSON.parse(text))),
            figures ? ask(origin, '/metrics', readOriginFigures) : null,
          ]);
          return { id: origin.id, base: info, residents, figures: measured };
        }),
      ),
  };
}
