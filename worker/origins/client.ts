import {
  LOAD_HEADER,
  type BaseInfo,
  type OriginFigures,
  ResidentList,
  type ApiError,
  type Result,
  type SigningKey,
} from '../../protocol/index.ts';
import type { AdapterTrials } from '../registry/registry-deps.ts';
import {
  HEADERS_PATIENCE_MS,
  ORIGIN_QUESTION_MS,
  ORIGIN_VERIFY_MS,
  PULSE_MS,
  SHADOW_MAX_FILL,
} from './limits.ts';
import { logLine } from '../log.ts';
import { createBases, readBase } from './bases.ts';
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
import { createOriginDrops } from './drop-adapters.ts';
import { createHeldFiles } from './held-files.ts';
import { createPools } from './pools.ts';
import type { Bases, HeldFiles, OriginPins, OriginWarmth } from './ports.ts';
import type { BlobStore } from '../blobs/ports.ts';
import type { OriginDrops } from '../erasure/ports.ts';

export interface OriginReport {
  id: string;
  /** Id of the base that the configuration has it serve; null = it does not say. */
  configuredBase: string | null;
  /** null when the origin does not answer. */
  base: BaseInfo | null;
  residents: ResidentList | null;
  /** null also when they were not asked for. */
  figures: OriginFigures | null;
}

export type { AskedOrigin, CompletionCall, Served } from './complete.ts';

export interface OriginClient extends AdapterTrials {
  readonly bases: Bases;
  /** @param figures ask for them too. */
  report(figures?: boolean): Promise<OriginReport[]>;
  /** Figures of those that answer. */
  measure(): Promise<{ id: string; figures: OriginFigures }[]>;
  readonly pins: OriginPins;
  readonly warmth: OriginWarmth;
  readonly files: HeldFiles;
  readonly drops: OriginDrops;
  /** Has any origin of the base, as far as is known here, less than {@link SHADOW_MAX_FILL} of its rows taken? */
  hasRoom(base: string | null): boolean;
  /** Asks one origin after the other until one serves, or refuses what the request says. */
  complete(call: CompletionCall): Promise<Result<Served, ApiError>>;
}

export function createOriginClient(params: {
  origins: readonly Origin[];
  /** Id of the base that is asked where none is named; that of the first origin unless given. */
  defaultBase?: string | null;
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
  const pools = createPools(origins, params.defaultBase);
  const order = (name: string, base: string) =>
    chooseOrigins({ name, spread: name, origins: pools.of(base), stateOf: health.stateOf });
  const warmth = createPrefetch({ pools, order, exchange, now });

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

  return {
    bases: createBases({
      ...{ pools, now },
      ask: (origin) => ask(origin, '/base', readBase),
      isEjected: (origin) => health.stateOf(origin).ejected,
    }),
    complete: createComplete({
      ...{ pools, health, now },
      routing: createRouting({ health, prefetchAt: warmth.at, now }),
      watch: createWatch({ health, exchange, send, now, patienceMs, pulseMs }),
      askUsage: createUsageQuestion({ ...params, send }),
    }),
    ...createTrials({
      ...{ pools, order, exchange },
      verifyTimeoutMs: params.verifyTimeoutMs ?? ORIGIN_VERIFY_MS,
    }),
    hasRoom: (base) =>
      pools
        .of(base)
        .map(health.stateOf)
        .some(({ load, slots, ejected }) => !ejected && load < slots * SHADOW_MAX_FILL),
    pins: createOriginPins({ pools, exchange, send }),
    warmth,
    files: createHeldFiles({ origins, send }),
    drops: createOriginDrops({ origins, send }),
    async measure() {
      const asked = await Promise.all(
        origins.map(async (origin) => ({
          id: origin.id,
          figures: await ask(origin, '/metrics', readOriginFigures),
        })),
      );
      return asked.flatMap(({ id, figures }) => (figures === null ? [] : [{ id, figures }]));
    },
    report: (figures = false) =>
      Promise.all(
        origins.map(async (origin) => {
          const [info, residents, measured] = await Promise.all([
            ask(origin, '/base', readBase),
            ask(origin, '/adapters', (text) => ResidentList.parse(JSON.parse(text))),
            figures ? ask(origin, '/metrics', readOriginFigures) : null,
          ]);
          return {
            id: origin.id,
            configuredBase: origin.base ?? null,
            base: info,
            residents,
            figures: measured,
          };
        }),
      ),
  };
}
