import type { RequestTrace } from './request-trace.ts';

/** An origin's own phases: short names and milliseconds, nothing else is passed on. */
const ORIGIN_PHASE = /^([a-z]{1,20});dur=(\d{1,7}(?:\.\d{1,3})?)$/;
const MAX_ORIGIN_PHASES = 8;

/**
 * `Server-Timing`: what the answer waited for, ms. Phases of the edge overlap (the key is read beside the name);
 * those of the origin lie within `origin`.
 * @param ofOrigin the origin's own header.
 */
export function serverTiming(trace: RequestTrace, ofOrigin: string | null): string {
  const own = [...trace.phases()].map(([name, ms]) => `${name};dur=${ms}`);
  const inner = (ofOrigin ?? '')
    .split(/, */)
    .map((entry) => ORIGIN_PHASE.exec(entry))
    .filter((match) => match !== null)
    .slice(0, MAX_ORIGIN_PHASES)
    .map((match) => `origin-${match[1]};dur=${match[2]}`);
  return [...own, ...inner].join(', ');
}
