import { isSampled } from '../../protocol/index.ts';
import { createAnalyticsPoints, type AnalyticsDataset, noPoints } from './data-points.ts';
import { logLine } from '../log.ts';
import type { RequestTrace } from './request-scope.ts';

/** A request that has been answered to its last byte, or whose client has gone. */
export interface EndedRequest {
  trace: RequestTrace;
  requestId: string;
  method: string;
  /** The pattern, never the path: names and ids in it are not for everybody who reads logs. */
  route: string;
  /** Of the answer's headers. */
  status: number;
  /** Unix ms. */
  at: number;
}

export type Observer = (ended: EndedRequest) => void;

/** Answers from here on are logged whatever the sample. */
const FAILED = 500;

/**
 * Writes one log line a request, and one data point a completion and a counted feedback.
 * @param logSample share of the requests that are logged, 0 to 1; failures always are.
 */
export function createObserver(params: {
  dataset: AnalyticsDataset | undefined;
  logSample: number;
}): Observer {
  const points = params.dataset === undefined ? noPoints : createAnalyticsPoints(params.dataset);
  return ({ trace, requestId, method, route, status: answered, at }) => {
    const { facts, ending } = trace;
    const status = ending?.status ?? answered;
    const ms = at - trace.startedAt;
    const phase = trace.phases();
    if (status >= FAILED || isSampled(requestId, params.logSample))
      logLine(
        'request',
        {
          request_id: requestId,
          trace_id: trace.parent?.traceId,
          method,
          route,
          status,
          ms,
          tenant: facts.tenant,
          key_id: facts.keyId,
          name: facts.name,
          version: facts.version,
          chain: facts.chainId,
          origin: facts.origin,
          tried: facts.tried === undefined || facts.tried.length === 0 ? undefined : facts.tried.join(','),
          degraded: facts.degraded,
          experiment: facts.experiment,
          variant: facts.variant,
          stream: facts.stream,
          prompt_tokens: ending?.promptTokens,
          completion_tokens: ending?.completionTokens,
          key_ms: phase.get('key'),
          name_ms: phase.get('name'),
          origin_ms: phase.get('origin'),
        },
        status >= FAILED ? 'error' : 'info',
      );
    const asked = { tenant: facts.tenant ?? '', keyId: facts.keyId ?? '', route, requestId };
    if (facts.feedback !== undefined) points.feedback({ ...asked, ...facts.feedback });
    if (ending === null || facts.name === undefined) return;
    points.completion({
      ...asked,
      name: facts.name,
      version: facts.version ?? 0,
      origin: facts.origin ?? '',
      degraded: facts.degraded ?? '',
      experiment: facts.experiment ?? '',
      variant: facts.variant ?? '',
      stream: facts.stream ?? false,
      status,
      promptTokens: ending.promptTokens,
      completionTokens: ending.completionTokens,
      ms,
      originMs: phase.get('origin') ?? 0,
      failovers: facts.tried?.length ?? 0,
    });
  };
}
