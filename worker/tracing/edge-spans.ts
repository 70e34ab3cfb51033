/** The spans of a request at the edge. They count no tokens: the origin's do. */
import type { Attributes, Span } from '../../protocol/otlp.ts';
import { childOf } from '../../protocol/trace-context.ts';
import type { EndedRequest } from '../http/request.ts';

/** Answers from this status on are failures of graft; others may be the client's mistakes. */
const FAILED = 500;
/** Its client has disconnected. */
const CLIENT_LEFT = 499;

/** The request's span first, then its stages as they began. */
export function edgeSpans({ trace, method, route, requestId, status: answered, at }: EndedRequest): Span[] {
  const { span, client, stages } = trace;
  const status = trace.ending?.status ?? answered;
  const request: Span = {
    ...span,
    name: `${method} ${route}`,
    kind: 'server',
    parentSpanId: client?.spanId ?? null,
    parentIsRemote: client !== null,
    startMs: trace.startedAt,
    endMs: at,
    attributes: {
      'http.request.method': method,
      'http.route': route,
      'url.path': route,
      'http.response.status_code': status,
      'graft.request_id': requestId,
      ...servedAs(trace.facts),
      'error.type': status === CLIENT_LEFT ? 'cancelled' : trace.facts.code || errorOf(status),
    },
    failed: status >= FAILED,
  };
  return [
    request,
    ...stages.map(({ name, spanId, from, to, attributes, failed }): Span => ({
      ...childOf(span, spanId ?? undefined),
      name,
      kind: name === 'origin' || name === 'bring adapter' ? 'client' : 'internal',
      parentSpanId: span.spanId,
      parentIsRemote: false,
      startMs: from,
      endMs: to ?? at,
      attributes,
      failed,
    })),
  ];
}

const errorOf = (status: number): string | null => (status < 400 ? null : String(status));

/** What is known of who answered. Only published names: no client's text. */
function servedAs(facts: EndedRequest['trace']['facts']): Attributes {
  const isAdapter = (facts.version ?? 0) > 0;
  return {
    'graft.adapter.name': isAdapter ? facts.name : null,
    'graft.adapter.version': isAdapter ? facts.version : null,
    'graft.adapter.chain_id': isAdapter ? facts.chainId : null,
    'graft.adapter.tenant': facts.tenant,
    'graft.adapter.experiment': facts.experiment,
    'graft.adapter.variant': facts.variant,
    'graft.key_id': facts.keyId,
    'graft.origin': facts.origin,
    'graft.degraded': facts.degraded,
  };
}
