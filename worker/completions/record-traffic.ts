import type { AppContext } from '../http/request-scope.ts';
import { keepAlive } from '../http/request-scope.ts';
import type { EndedCompletion, TrafficSink } from '../traffic/ports.ts';

/**
 * Notes a completion that has ended, for the traffic over time and the list of requests: what it was, never what was said.
 * @param how.kept prompt and answer are kept. @param how.code of the error, where the trace does not know it. @param how.endedAt unix ms; now unless given.
 */
export function recordEnded(
  deps: { trafficSink: TrafficSink; now: () => number },
  context: AppContext,
  how: {
    status: number;
    code?: string;
    promptTokens?: number;
    completionTokens?: number;
    firstAt?: number | null;
    endedAt?: number;
    cold?: boolean;
    kept?: boolean;
  },
): EndedCompletion {
  const trace = context.get('trace');
  const { facts, startedAt } = trace;
  const { endedAt = deps.now(), firstAt = null } = how;
  const since = (at: number): number => Math.max(0, Math.round(at - startedAt));
  const ended: EndedCompletion = {
    id: context.get('requestId'),
    at: endedAt,
    tenant: facts.tenant ?? '',
    key_id: facts.keyId ?? '',
    name: facts.name ?? '',
    version: facts.version ?? 0,
    route: context.req.routePath,
    status: how.status,
    code: how.code ?? facts.code ?? '',
    stream: facts.stream ?? false,
    experiment: facts.experiment ?? '',
    variant: facts.variant ?? '',
    origin: facts.origin ?? '',
    degraded: facts.degraded ?? '',
    cold: how.cold ?? false,
    ...(how.kept === true ? { kept: true } : {}),
    prompt_tokens: how.promptTokens ?? 0,
    completion_tokens: how.completionTokens ?? 0,
    duration_ms: since(endedAt),
    ttft_ms: firstAt === null ? null : since(firstAt),
    phases: [
      ...trace.phases(),
      ...(facts.originPhases ?? []).map(([name, ms]) => [`origin-${name}`, ms] as const),
    ].map(([name, ms]) => ({ name, ms })),
  };
  deps.trafficSink.record(ended, (work) => keepAlive(context, work));
  return ended;
}
