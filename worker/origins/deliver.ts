import { isEventStream, STREAM_STALL_MS } from '../../protocol/index.ts';
import { STREAM_STALL_CHECK_MS } from './limits.ts';
import { logLine } from '../log.ts';
import type { Lease, OriginHealth } from './health.ts';
import { guardStream } from './stream.ts';
import type { Origin } from './choose-origin.ts';
import type { StreamEnd } from '../metering/ports.ts';

/** Hands an origin's answer on, streams under guard; what becomes of them counts for or against the origin. */
export function createDeliver({ health, now }: { health: OriginHealth; now: () => number }) {
  /** The lease ends with the body of a stream; headers of a whole answer come when the work is done. */
  return (params: {
    origin: Origin;
    response: Response;
    lease: Lease;
    call: { path: string; requestId: string; signal: AbortSignal };
  }): { response: Response; ended: Promise<StreamEnd> | null } => {
    const { origin, response, lease, call } = params;
    const { body, status, headers } = response;
    if (body === null || !isEventStream(headers)) {
      lease.end();
      return { response, ended: null };
    }
    let tell: (end: StreamEnd) => void = () => undefined;
    const ended = new Promise<StreamEnd>((resolve) => (tell = resolve));
    const guarded = guardStream(body, {
      path: call.path,
      gone: call.signal,
      now,
      onProgress: lease.renew,
      stallMs: STREAM_STALL_MS,
      checkMs: STREAM_STALL_CHECK_MS,
      onEnd(end) {
        lease.end();
        tell(end);
        if (end !== 'cut' && end !== 'stalled') return;
        logLine('stream_cut', { origin: origin.id, request_id: call.requestId });
        health.failed(origin);
      },
    });
    return { response: new Response(guarded, { status, headers }), ended };
  };
}
