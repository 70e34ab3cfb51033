/** What a request waited for, one after the other, as far as edge and origin say it. */
import type { RequestView } from '../../protocol/admin-api/traffic.ts';

export interface PhaseSpan {
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
