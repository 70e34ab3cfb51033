import { USAGE_HEADER } from '../../protocol/index.ts';
import { askOrigin } from '../experiments/pairs/ask-origin.ts';
import { conversationOf } from '../experiments/pairs/conversation.ts';
import type { PairJudges } from '../experiments/pairs/ports.ts';
import type { ShadowRunner } from '../experiments/ports.ts';
import type { Shadow } from '../experiments/take-part.ts';
import { fail } from '../http/request-scope.ts';
import type { MeteredAnswer } from '../metering/ports.ts';
import type { CompletionCall, OriginClient } from '../origins/client.ts';

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
