import { readUsageNote, USAGE_HEADER, type AdapterManifest } from '../../../protocol/index.ts';
import { logLine, reasonOf } from '../../log.ts';
import type { CompletionCall, OriginClient } from '../../origins/client.ts';
import { answerTexts } from '../answer-texts.ts';
import type { AskJudge } from './ports.ts';

/**
 * Asks a judging model as shadows are asked: for the tenant that runs the experiment, and only where there is room.
 * @param call.manifest null = the default base.
 */
export function askOrigin(
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
