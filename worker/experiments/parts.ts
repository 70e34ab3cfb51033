/** Counting of experiments: this isolate's writes to the tallies, and shadow requests. */
import { createAnswerTokens } from './answer-token.ts';
import { createUnitHasher } from './assign.ts';
import {
  EXPOSURE_FLUSH_MS,
  MAX_EXPOSURE_EVENTS,
  MAX_UNSENT_EXPOSURES,
  EXPOSURE_TRIES,
  MAX_SHADOWS,
  SHADOW_BUDGET_MS,
  MAX_COMPARED_BYTES,
} from './limits.ts';
import type { Clock } from '../metering/meter.ts';
import type { ExperimentSink, ExperimentTallies, ExperimentEvent } from './ports.ts';
import type { Fetch } from '../origins/connection.ts';
import { createPairJudges } from './pairs/judge-pair.ts';
import type { PairTallies } from './pairs/ports.ts';
import { createWebhookSigner } from '../webhooks/send-webhooks.ts';
import { createShadowRunner } from './run-shadow.ts';
import { logLine } from '../log.ts';
import { createBatchedWrites } from '../platform/store-calls.ts';

export interface Secrets {
  macKey: Uint8Array<ArrayBuffer>;
  acceptedMacKeys: readonly Uint8Array<ArrayBuffer>[];
}

export function createCounting(
  params: Clock &
    Secrets & {
      tallies: ExperimentTallies;
      pairTallies: PairTallies;
      hasRoom: (base: string | null) => boolean;
      callOut: Fetch;
      loopbackCallbacks: boolean;
    },
) {
  const { tallies } = params;
  const experimentSink = createExposureRecorder({
    ...params,
    newId: () => crypto.randomUUID(),
    flushMs: EXPOSURE_FLUSH_MS,
    maxEvents: MAX_EXPOSURE_EVENTS,
    maxUnsentEvents: MAX_UNSENT_EXPOSURES,
    tries: EXPOSURE_TRIES,
  });
  const judgeSigner = createWebhookSigner(params.macKey, 'graft-judge-v1');
  return {
    tallies,
    judgeSigner,
    experimentSink,
    shadows: createShadowRunner({
      ...params,
      sink: experimentSink,
      maxAtOnce: MAX_SHADOWS,
      budgetMs: SHADOW_BUDGET_MS,
      maxComparedBytes: MAX_COMPARED_BYTES,
    }),
    answerTokens: createAnswerTokens(params.macKey, params.acceptedMacKeys),
    unitHash: createUnitHasher(params.macKey),
    pairJudges: createPairJudges({
      ...params,
      signer: judgeSigner,
      loopback: params.loopbackCallbacks,
      newId: () => crypto.randomUUID(),
      heads: () => (crypto.getRandomValues(new Uint8Array(1))[0]! & 1) === 1,
    }),
  };
}

interface Batch {
  experiment: string;
  id: string;
  at: number;
  events: ExperimentEvent[];
}

/**
 * Gathers this isolate's events and sends them to their tallies, in a batch per experiment; see {@link
 * createBatchedWrites}. One experiment's failing tally delays no other.
 */
export function createExposureRecorder(params: {
  tallies: Pick<ExperimentTallies, 'add'>;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  newId: () => string;
  flushMs: number;
  /** Of one batch. */
  maxEvents: number;
  /** Waiting for tallies. */
  maxUnsentEvents: number;
  tries: number;
}): ExperimentSink {
  const { tallies, now, newId, maxEvents, maxUnsentEvents } = params;
  const open = new Map<string, ExperimentEvent[]>();
  const writes = createBatchedWrites<Batch>({
    ...params,
    close: () => [...open.keys()].forEach(close),
    write: ({ experiment, ...batch }) => tallies.add(experiment, batch),
    lane: ({ experiment }) => experiment,
    size: ({ events }) => events.length,
    maxUnsent: maxUnsentEvents,
    onRefused: ({ experiment, events }, reason) =>
      logLine('exposures_not_written', { experiment, reason, events: events.length }),
    onLost: ({ experiment, events }) => logLine('exposures_lost', { experiment, events: events.length }),
  });

  function close(experiment: string): void {
    const events = open.get(experiment);
    open.delete(experiment);
    if (events !== undefined) writes.add({ experiment, id: newId(), at: now(), events });
  }

  return {
    record(event, keepAlive) {
      const events = open.get(event.experiment) ?? [];
      open.set(event.experiment, events);
      events.push(event);
      if (events.length >= maxEvents) close(event.experiment);
      writes.flushSoon(keepAlive);
    },
  };
}
