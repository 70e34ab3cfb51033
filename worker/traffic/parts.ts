/** Records traffic, and reads it: what is young from gatherers, what is older from D1. */
import type { Gatherers } from '../gathering/ports.ts';
import { keepAlive, type AppContext } from '../http/request.ts';
import { GATHERED_S, KEPT_S } from './limits.ts';
import type { EndedCompletion, TrafficLedger, TrafficPoint, TrafficQuery, TrafficSink } from './ports.ts';

const HOUR_S = 3_600;

/** @returns sums by step, status and code, oldest first; some twice, of both. */
export async function readTraffic(
  deps: { traffic: Pick<TrafficLedger, 'read'>; gatherers: Pick<Gatherers, 'traffic'>; now: () => number },
  query: TrafficQuery,
): Promise<TrafficPoint[]> {
  const now = deps.now() / 1_000;
  const inHours = query.step >= HOUR_S;
  // Of older minutes some are deleted already.
  const young = inHours
    ? HOUR_S * Math.floor((now - GATHERED_S) / HOUR_S)
    : 60 * Math.ceil((now - KEPT_S[60]) / 60);
  const [old, recent] = await Promise.all([
    inHours && query.from < young ? deps.traffic.read({ ...query, to: Math.min(query.to, young) }) : [],
    query.to > young ? deps.gatherers.traffic({ ...query, from: Math.max(query.from, young) }) : [],
  ]);
  return [...old, ...recent].sort((a, b) => a.at - b.at);
}

/**
 * Records a completion that has ended, in the traffic and in the list of requests; never its text.
 * @param how.kept its prompt and answer are stored.
 * @param how.code the error's, if the trace does not know it.
 * @param how.endedAt unix ms; default: now.
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
  const requestId = context.get('requestId');
  const ended: EndedCompletion = {
    id: trace.ownId,
    ...(requestId === trace.ownId ? {} : { request_id: requestId }),
    at: endedAt,
    tenant: facts.tenant ?? '',
    key_id: facts.keyId ?? '',
    name: facts.name ?? '',
    ...(facts.unknownName === undefined ? {} : { unknown_name: facts.unknownName }),
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
