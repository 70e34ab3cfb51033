import { RequestUsage, usagePath } from '../../protocol/index.ts';
import { ORIGIN_QUESTION_MS, USAGE_QUESTION_PAUSE_MS } from './limits.ts';
import { logLine } from '../log.ts';
import type { OriginFetch } from './signed-fetch.ts';
import { readOriginText } from './read-text.ts';
import type { Origin } from './choose-origin.ts';
import type { TokenCounts } from '../metering/ports.ts';

const TRIES = 2;

/** Asks an origin what a request has used whose client left it; origins never say so by themselves. */
export function createUsageQuestion(params: { send: OriginFetch; sleep: (ms: number) => Promise<void> }) {
  const { send, sleep } = params;

  async function askOnce(origin: Origin, askId: string): Promise<RequestUsage | null> {
    const signal = AbortSignal.timeout(ORIGIN_QUESTION_MS);
    const sent = await send(origin, { method: 'GET', path: usagePath(askId), signal });
    try {
      const text = sent.ok ? await readOriginText(sent.value) : null;
      return sent.ok && sent.value.ok && text !== null ? RequestUsage.parse(JSON.parse(text)) : null;
    } catch {
      return null;
    }
  }

  /**
   * @returns null when it does not say: it is not there, does not know the question (an origin of before), or goes on
   * running the request. Never throws.
   */
  return async (origin: Origin, askId: string, requestId: string): Promise<TokenCounts | null> => {
    for (let tries = 1; ; tries += 1) {
      const usage = await askOnce(origin, askId);
      // The question may overtake the request: what is unknown twice never came.
      const known = usage?.state === 'ended' || (usage?.state === 'unknown' && tries === TRIES);
      if (known) return { promptTokens: usage.prompt_tokens, completionTokens: usage.completion_tokens };
      if (tries === TRIES) {
        logLine('usage_unknown', {
          origin: origin.id,
          request_id: requestId,
          reason: usage === null ? 'no answer' : 'it goes on running',
        });
        return null;
      }
      await sleep(USAGE_QUESTION_PAUSE_MS);
    }
  };
}

export type UsageQuestion = ReturnType<typeof createUsageQuestion>;
