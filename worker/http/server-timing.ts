import type { OriginPhase, RequestTrace } from './request-trace.ts';

/** An origin's own phases: short names and milliseconds, nothing else is passed on. */
const ORIGIN_PHASE = /^([a-z]{1,20});dur=(\d{1,7}(?:\.\d{1,3})?)$/;
const MAX_ORIGIN_PHASES = 8;

/**
 * `Server-Timing`: what the answer waited for, ms. Phases of the edge overlap (the key is read beside the name);
 * those of the origin lie within `origin`.
 */
export function serverTiming(trace: RequestTrace, ofOrigin: readonly OriginPhase[]): string {
  const own = [...trace.phases()].map(([name, ms]) => `${name};dur=${ms}`);
  const inner = ofOrigin.map(([name, ms]) => `origin-${name};dur=${ms}`);
  return [...own, ...inner].join(', ');
}

/** @param header an origin's `Server-Timing`. */
export const readOriginPhases = (header: string | null): OriginPhase[] =>
  (header ?? '')
    .split(/, */)
    .map((entry) => ORIGIN_PHASE.exec(entry))
    .filter((match) => match !== null)
    .slice(0, MAX_ORIGIN_PHASES)
    .map(([, name = '', ms]) => [name, Number(ms)]);
