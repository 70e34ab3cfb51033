/** Where a request's time went, as far as edge and origin report it. */
import type { RequestView } from '../../protocol/admin-api/traffic.ts';

interface PhaseSpan {
  readonly name: 'lookup' | 'origin' | 'queue' | 'prefill' | 'first token' | 'answer' | 'rest';
  readonly what: string;
  /** ms */
  readonly ms: number;
}

/**
 * @returns parts that add up to the duration. `lookup`: key and name, read in parallel; `origin`: sent, prompt
 * encoded, adapter sent; `queue`: waited for a row and an adapter; `prefill`; `first token`: both, if the
 * origin does not report the queue, or had no row yet when it reported; `answer`: decode.
 */
export function requestPhases(request: RequestView): PhaseSpan[] {
  const said = (name: string): number | null =>
    request.phases.find((phase) => phase.name === name)?.ms ?? null;
  const ms = (name: string): number => said(name) ?? 0;
  const total = request.duration_ms;
  const lookup = Math.min(total, Math.max(ms('key'), ms('name')));
  const origin = ms('origin');
  if (origin === 0) {
    return [
      { name: 'lookup', what: 'key and name read', ms: lookup },
      { name: 'rest', what: 'everything else at the edge', ms: total - lookup },
    ];
  }
  // The headers of a long-waiting stream come first, and the origin reports the time until then.
  const afterHeaders = Math.max(0, (request.ttft_ms ?? 0) - lookup - origin);
  const queue = said('origin-queue');
  const isOne = queue === null || said('origin-first') === null;
  const first = Math.min(
    (said('origin-first') ?? queue ?? 0) + afterHeaders,
    Math.max(0, (request.ttft_ms ?? total) - lookup),
  );
  const begun = Math.min(
    total,
    Math.max(request.ttft_ms ?? Math.min(total, lookup + origin), lookup + first),
  );
  // A whole answer comes with its headers: the time after the first token is the origin's own figure.
  const answer =
    request.ttft_ms === null ? Math.min(ms('origin-rest'), total - lookup - first) : total - begun;
  return [
    { name: 'lookup', what: 'key and name read', ms: lookup },
    {
      name: 'origin',
      what: 'sent to the origin, prompt encoded, adapter sent',
      ms: Math.max(0, total - lookup - first - answer),
    },
    ...(queue === null
      ? []
      : [{ name: 'queue', what: 'waited for a row, adapter loaded', ms: Math.min(queue, first) } as const]),
    {
      ...(isOne
        ? ({ name: 'first token', what: 'waited for a row, adapter loaded, prefill' } as const)
        : ({ name: 'prefill', what: 'prompt read, to the first token' } as const)),
      ms: first - Math.min(queue ?? 0, first),
    },
    { name: 'answer', what: 'decode', ms: answer },
  ];
}

/** The outcome of a request, as text. */
const CODES: Readonly<Record<string, string>> = {
  adapter_loading: 'the adapter was still being sent',
  adapter_unavailable: 'the adapter could not be sent to an origin',
  context_length_exceeded: 'prompt and answer do not fit the context',
  deadline_exceeded: 'it took too long',
  edge_busy: 'the edge was reading too many large bodies',
  insufficient_quota: 'a token budget is used up',
  internal_error: 'a bug in graft; see the log',
  invalid_request: 'a field is invalid',
  model_not_found: 'no such name, or not for this key',
  model_withdrawn: 'an adapter that the name depends on was retired',
  origin_stopped: 'origins stopped answering while serving it',
  origin_unavailable: 'no origin was available',
  queue_full: "the origins' queues were full",
  quota_damaged: 'a usage counter must be reset',
  rate_limit_exceeded: 'a limit of the key or its tenant',
  registry_unavailable: 'the registry did not answer',
  request_too_large: 'the body is too large',
  unsupported_parameter: 'a parameter that the base does not support',
};

export function outcomeWords({ status, code }: { status: number; code: string }): string {
  if (code !== '') return CODES[code] ?? '';
  if (status < 400) return 'answered';
  if (status === 499) return 'the client disconnected';
  if (status === 502) return 'the stream was cut off';
  return status >= 500 ? 'it failed' : 'it was refused';
}
