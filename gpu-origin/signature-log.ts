import type { SignatureProblem } from '../protocol/index.ts';
import type { LogLine } from './request-log.ts';

/** At most one line of each kind in this time: strangers may send refused requests without end. */
const EVERY_MS = 10_000;

/**
 * Logs why signatures are refused. Its sender is not told all of it; who reads this log may be.
 * @param now ms of any clock that does not go back.
 */
export function createSignatureLog(log: LogLine, now: () => number): (problem: SignatureProblem) => void {
  const kinds = new Map<string, { at: number; unlogged: number }>();
  return (problem) => {
    const { kind } = problem;
    const last = kinds.get(kind);
    if (last !== undefined && now() - last.at < EVERY_MS) {
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
