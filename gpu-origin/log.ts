import { isSampled } from '../protocol/identity.ts';
import type { SignatureProblem } from '../protocol/signature.ts';
import type { EngineObserver } from './engine/engine.ts';

type LogFields = Record<string, string | number | boolean | null | undefined | readonly string[]>;

/** Writes one line of JSON, without undefined values. Never a prompt, a body or a key. */
type LogLine = (level: 'info' | 'error', event: string, fields: LogFields) => void;

/** @param write gets the line without its newline. */
export const createLogLine =
  (write: (line: string) => void): LogLine =>
  (level, event, fields) =>
    write(JSON.stringify({ level, event, ...fields }));

/**
 * One line per answer (`n` of them make `n` lines with one id), with the field names of the edge's log;
 * failures and adapters that could not be loaded are always logged.
 * @param share of the requests that are logged, 0 to 1: the same ones as at the edge.
 */
export function createRequestLog(
  log: LogLine,
  share: number,
): Required<Pick<EngineObserver, 'onFinish' | 'onRefuse' | 'onAdapterLoad'>> {
  return {
    onFinish({ id, traceId, tenant, outcome, error, promptTokens, completionTokens, ms, queuedMs }) {
      const failed = outcome === 'failed';
      if (!failed && !isSampled(id, share)) return;
      log(failed ? 'error' : 'info', 'generation', {
        request_id: id,
        trace_id: traceId,
        tenant,
        outcome,
        code: error?.code,
        reason: error?.message,
        prompt_tokens: promptTokens,
        completion_tokens: completionTokens,
        ms: Math.round(ms),
        queued_ms: queuedMs === null ? undefined : Math.round(queuedMs),
      });
    },
    onRefuse({ id, traceId, tenant, error }) {
      if (isSampled(id, share))
        log('info', 'refused', { request_id: id, trace_id: traceId, tenant, code: error.code });
    },
    onAdapterLoad({ digest, ms, bytes, error }) {
      if (error === null) return;
      log('error', 'adapter_load', {
        digest,
        bytes,
        ms: Math.round(ms),
        code: error.code,
        reason: error.message,
      });
    },
  };
}

/** Forwards events to both. */
export const both = (metrics: EngineObserver, log: ReturnType<typeof createRequestLog>): EngineObserver => ({
  ...metrics,
  onFinish(finish) {
    metrics.onFinish?.(finish);
    log.onFinish(finish);
  },
  onRefuse(refusal) {
    metrics.onRefuse?.(refusal);
    log.onRefuse(refusal);
  },
  onAdapterLoad(load) {
    metrics.onAdapterLoad?.(load);
    log.onAdapterLoad(load);
  },
});

/** At most one line of each kind in this time: strangers may send endless invalid requests. */
const REFUSALS_EVERY_MS = 10_000;

/**
 * Logs why signatures are refused, in more detail than the sender is told.
 * @param now ms of any monotonic clock.
 */
export function createSignatureLog(log: LogLine, now: () => number): (problem: SignatureProblem) => void {
  const kinds = new Map<string, { at: number; unlogged: number }>();
  return (problem) => {
    const { kind } = problem;
    const last = kinds.get(kind);
    if (last !== undefined && now() - last.at < REFUSALS_EVERY_MS) {
      last.unlogged += 1;
      return;
    }
    kinds.set(kind, { at: now(), unlogged: 0 });
    log('error', 'signature_refused', {
      reason: kind,
      kid: 'kid' in problem ? problem.kid : undefined,
      skew_ms: 'skewMs' in problem ? problem.skewMs : undefined,
      more: last === undefined || last.unlogged === 0 ? undefined : last.unlogged,
    });
  };
}

/** How often the event loop is checked, ms. */
const STALL_LOOK_MS = 500;
/** A longer stall, ms, noticeably delays health checks and streams. */
const STALL_MS = 1_000;
/** At most one line in this time, ms: a loop that stalls once stalls again. */
const STALL_EVERY_MS = 10_000;

/**
 * Logs `event_loop_stood` when nothing ran for more than a second: no request was read, no token sent, no
 * health check answered. Counts the stalls between two lines.
 * @param timer calls back at this interval, ms, while the loop runs. @param now ms of a monotonic clock.
 */
export function watchEventLoop(
  log: LogLine,
  { timer, now }: { timer: (ms: number, callback: () => void) => void; now: () => number },
): void {
  let looked = now();
  let logged = -Infinity;
  let more = 0;
  timer(STALL_LOOK_MS, () => {
    const stood = now() - looked - STALL_LOOK_MS;
    looked = now();
    if (stood <= STALL_MS) return;
    if (looked - logged < STALL_EVERY_MS) {
      more += 1;
      return;
    }
    log('error', 'event_loop_stood', { ms: Math.round(stood), more: more === 0 ? undefined : more });
    logged = looked;
    more = 0;
  });
}

/** Progress: lines and a bar on stderr; the parent process gets every whole percent, as JSON on stdout. */
export function progressReporter(params: {
  stderr: { isTTY?: boolean; write(text: string): unknown };
  onPercent: (stage: string, percent: number) => void;
}): (stage: string, done: number, total: number) => void {
  const { stderr, onPercent } = params;
  let current = '';
  let shown = -1;
  let told = -1;
  return (stage, done, total) => {
    if (stage !== current) {
      current = stage;
      shown = -1;
      told = -1;
    }
    const percent = total > 0 ? Math.floor((100 * Math.min(done, total)) / total) : 100;
    if (percent !== told) onPercent(stage, percent);
    told = percent;
    const step = stderr.isTTY === true ? percent : Math.floor(percent / 10) * 10;
    if (step === shown) return;
    shown = step;
    if (stderr.isTTY !== true) {
      stderr.write(`${stage}: ${step} %\n`);
      return;
    }
    const bar = '█'.repeat(Math.floor(percent / 4)).padEnd(25, '░');
    stderr.write(`\r\x1b[2K${stage} ${bar} ${percent} %${percent === 100 ? '\n' : ''}`);
  };
}
