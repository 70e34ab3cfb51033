import { USAGE_HEADER, readUsageNote, type AdapterManifest } from '../../protocol/index.ts';
import { conversationOf } from '../experiments/pairs/conversation.ts';
import type { PairJudges, AskJudge } from '../experiments/pairs/ports.ts';
import type { ShadowRunner } from '../experiments/ports.ts';
import type { Shadow } from '../experiments/take-part.ts';
import { fail } from '../http/request-scope.ts';
import type { MeteredAnswer } from '../metering/ports.ts';
import type { CompletionCall, OriginClient } from '../origins/client.ts';
import { logLine, reasonOf } from '../log.ts';
import { answerTexts } from '../experiments/answer-texts.ts';

export interface ShadowDeps {
  origins: OriginClient;
  shadows: ShadowRunner;
  pairJudges: PairJudges;
}

/** Its work counts for the tenant that wants it: at the origin too a shadow takes nothing from the caller's share. */
export function runShadow(
  deps: ShadowDeps,
  common: Pick<CompletionCall, 'path' | 'request' | 'model' | 'requestId' | 'keepAlive'>,
  shadow: Shadow & { answer: Pick<MeteredAnswer, 'response' | 'note'> },
): Response['body'] {
  const { manifest, owner, compare, answer, judged, ...event } = shadow;
  const pair =
    judged === null
      ? null
      : deps.pairJudges.open({
          ...{ ...event, ...judged, prompt: conversationOf(common.request) },
          ask: askOrigin(deps.origins, { ...common, manifest: judged.manifest, tenant: owner }),
        });
  return deps.shadows.run({
    ...{ event, answer, compare, pair, base: manifest.base.id },
    keepAlive: common.keepAlive,
    async ask(signal) {
      let cold = false;
      const onCold = () => void (cold = true);
      const own = await deps.origins.complete({ ...common, manifest, tenant: owner, signal, onCold });
      if (!own.ok) return { response: fail(own.error), note: null };
      const { response } = own.value;
      return { response, note: response.headers.get(USAGE_HEADER), cold };
    },
  });
}

/**
 * Asks a judging model as shadows are asked: for the tenant that runs the experiment, and only where there is room.
 * @param call.manifest null = the default base.
 */
function askOrigin(
  origins: Pick<OriginClient, 'complete' | 'hasRoom'>,
  call: Pick<CompletionCall, 'tenant' | 'requestId' | 'keepAlive'> & { manifest: AdapterManifest | null },
): AskJudge {
  const nothing = { text: null, tokens: 0 };
  return async (request, signal) => {
    if (!origins.hasRoom(call.manifest?.base.id ?? null)) return nothing;
    const model = call.manifest?.name ?? 'base';
    try {
      const path = '/v1/chat/completions';
      const served = await origins.complete({ ...call, path, request: { model, ...request }, model, signal });
      if (!served.ok) return nothing;
      const { response } = served.value;
      const body = await response.text();
      const note = readUsageNote(response.headers.get(USAGE_HEADER));
      const tokens = (note?.promptTokens ?? 0) + (note?.completionTokens ?? 0);
      const [text = null] = (response.ok ? answerTexts(body, false) : null) ?? [];
      return { text, tokens };
    } catch (error) {
      logLine('judge_failed', { reason: reasonOf(error) });
      return nothing;
    }
  };
}
