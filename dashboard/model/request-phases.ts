/** What a request waited for, one after the other, as far as edge and origin say it. */
import type { RequestView } from '../../protocol/admin-api/traffic.ts';

interface PhaseSpan {
  readonly name: 'lookup' | 'origin' | 'queue' | 'prefill' | 'first token' | 'answer' | 'rest';
  readonly what: string;
  /** ms */
  readonly ms: number;
}

/**
 * @returns parts that add up to the duration. `lookup`: key and name are read beside each other; `origin`: sent, prompt
 * encoded, adapter brought; `queue`: waited for a row and an adapter; `prefill`; `first token`: both, where the origin
 * does not say what was the queue, or had still no row when it said so; `answer`: decode.
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
      { name: 'rest', what: 'all else at the edge', ms: total - lookup },
    ];
  }
  // Of a stream that waits for long the headers come first, and the origin speaks of what was until then.
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
  // A whole answer comes with its headers: what follows the first token is the origin's own figure.
  const answer =
    request.ttft_ms === null ? Math.min(ms('origin-rest'), total - lookup - first) : total - begun;
  return [
    { name: 'lookup', what: 'key and name read', ms: lookup },
    {
      name: 'origin',
      what: 'sent to the origin, prompt encoded, adapter brought',
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

/** What became of a request, in words. */
const CODES: Readonly<Record<string, string>> = {
  adapter_loading: 'the adapter was still on its way',
  adapter_unavailable: 'the adapter could not be brought to an origin',
  context_length_exceeded: 'prompt and answer do not fit the context',
  deadline_exceeded: 'it took too long',
  edge_busy: 'the edge had too much to read at once',
  insufficient_quota: 'a budget is used up',
  internal_error: 'a mistake of graft’s; the log has it',
  invalid_request: 'a field is wrong',
  model_not_found: 'no such name, or not for this key',
  model_withdrawn: 'what the name stands on was retired',
  origin_stopped: 'origins stopped answering under it',
  origin_unavailable: 'no origin could serve',
  queue_full: 'the origins had no room',
  quota_damaged: 'a counter of limits has to be reset',
  rate_limit_exceeded: 'a limit of the key or its tenant',
  registry_unavailable: 'the registry did not answer',
  request_too_large: 'the body is too large',
  unsupported_parameter: 'a parameter that the base cannot do',
};

export function outcomeWords({ status, code }: { status: number; code: string }): string {
  if (code !== '') return CODES[code] ?? '';
  if (status < 400) return 'answered';
  if (status === 499) return 'the client left';
  if (status === 502) return 'the stream broke off';
  return status >= 500 ? 'it failed' : 'it was refused';
}
