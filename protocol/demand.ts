/** How edges and origins measure what a chain's requests take: rows at once, by Little's law. */

/** Demand is averaged over this time: long enough to be significant, short enough to react to a crowd, ms. */
export const DEMAND_WINDOW_MS = 10_000;
/** Assumed time that a request occupies a row until one has ended, ms: 64 tokens at 30 ms. */
export const USUAL_HELD_MS = 2_000;
/** Requests over which the mean time of a row moves. */
const HELD_SAMPLES = 20;

/** @param seen requests in the window, `ms` ago. @returns what they count for now. */
export const decayed = (seen: number, ms: number): number =>
  seen * Math.exp(-Math.max(0, ms) / DEMAND_WINDOW_MS);

/** @param mean how long requests have occupied a row, ms. @param ms how long one more did. */
export const meanHeld = (mean: number, ms: number): number => mean + (Math.max(0, ms) - mean) / HELD_SAMPLES;

/** Rows that requests occupy at once: arrivals per ms times ms per row. @param seen in the window. */
export const rowsAtOnce = (seen: number, heldMs: number): number => (seen / DEMAND_WINDOW_MS) * heldMs;
