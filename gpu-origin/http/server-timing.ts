/** `Server-Timing` of one answer: what followed what, in ms; see docs/operations.md. */
export interface Timing {
  /** The time since the last lap, or the beginning, went into this. @param name lower-case letters. */
  lap(name: string): void;
  /** A row begins to read the prompt. Of several the first one counts. */
  begin(): void;
  /**
   * The lap `first`, to the first event, and before it `queue`: the part of it until a row began. No `queue` where an
   * answer needed none.
   * @param isOver false: there is no event yet, but headers go now. While no row has begun there is `queue` alone, so far.
   */
  first(isOver: boolean): void;
  headers(): { 'server-timing': string };
}

/** @param now ms. */
export function startTiming(now: () => number): Timing {
  const laps: string[] = [];
  let last = now();
  let begunAt: number | null = null;
  const say = (name: string, until: number): void => {
    laps.push(`${name};dur=${Math.max(0, Math.round(until - last))}`);
  };
  const lap = (name: string): void => {
    const at = now();
    say(name, at);
    last = at;
  };
  return {
    lap,
    begin: () => void (begunAt ??= now()),
    first(isOver) {
      if (begunAt === null && !isOver) return lap('queue');
      if (begunAt !== null) say('queue', begunAt);
      lap('first');
    },
    headers: () => ({ 'server-timing': laps.join(', ') }),
  };
}
