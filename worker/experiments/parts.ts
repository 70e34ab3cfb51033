/** What experiments count: what requests of this isolate send to the tallies, and shadow requests. */
import { createAnswerTokens, type AnswerTokens } from './answer-token.ts';
import { createExposureTokens, type ExposureTokens } from './exposure-token.ts';
import { createUnitHasher, type UnitHasher } from './unit-hash.ts';
import {
  EXPOSURE_FLUSH_MS,
  MAX_EXPOSURE_EVENTS,
  MAX_UNSENT_EXPOSURES,
  EXPOSURE_TRIES,
  MAX_SHADOWS,
  SHADOW_BUDGET_MS,
  MAX_COMPARED_BYTES,
} from './limits.ts';
import type { Clock } from '../metering/parts.ts';
import type { ExperimentSink, ExperimentTallies, ShadowRunner } from './ports.ts';
import type { Fetch } from '../origins/signed-fetch.ts';
import { createPairJudges } from './pairs/judge-pair.ts';
import type { PairJudges, PairTallies } from './pairs/ports.ts';
import { createWebhookSigner, type WebhookSigner } from './webhook-signature.ts';
import { createExposureRecorder } from './exposure-recorder.ts';
import { createShadowRunner } from './run-shadow.ts';

export interface Counting {
  tallies: ExperimentTallies;
  experimentSink: ExperimentSink;
  shadows: ShadowRunner;
  exposureTokens: ExposureTokens;
  answerTokens: AnswerTokens;
  unitHash: UnitHasher;
  webhookSigner: WebhookSigner;
  pairJudges: PairJudges;
  judgeSigner: WebhookSigner;
}

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
): Counting {
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
    exposureTokens: createExposureTokens(params.macKey, params.acceptedMacKeys),
    answerTokens: createAnswerTokens(params.macKey, params.acceptedMacKeys),
    unitHash: createUnitHasher(params.macKey),
    webhookSigner: createWebhookSigner(params.macKey, 'graft-webhook-v1'),
    pairJudges: createPairJudges({
      ...params,
      signer: judgeSigner,
      loopback: params.loopbackCallbacks,
      newId: () => crypto.randomUUID(),
      heads: () => (crypto.getRandomValues(new Uint8Array(1))[0]! & 1) === 1,
    }),
  };
}
