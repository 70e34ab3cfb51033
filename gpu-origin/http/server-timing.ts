/** `Server-Timing` of one answer: what followed what, in ms; see docs/operations.md. */
export interface Timing {
  /** The time since the last lap, or the beginning, went into this. @param name lower-case letters. */
  lap(name: string): void;
  headers(): { 'server-timing': string };
}

/** @param now ms. */
export function startTiming(now: () => number): Timing {
  const laps: string[] = [];
  let last = now();
  return {
    lap(name) {
      const at = now();
      laps.push(`${name};dur=${Math.max(0, Math.round(at - last))}`);
      last = at;
    },
    headers: () => ({ 'server-timing': laps.join(', ') }),
  };
}
