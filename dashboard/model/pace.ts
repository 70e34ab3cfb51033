/** How fast an answer came. All times in ms of one clock. */
export interface Pace {
  readonly sentAt: number;
  readonly firstAt: number | null;
  readonly lastAt: number | null;
  /** Pieces of text, until the answer says how many tokens there were. */
  readonly pieces: number;
  readonly tokens: number | null;
}

export const paceFrom = (sentAt: number): Pace => ({
  sentAt,
  firstAt: null,
  lastAt: null,
  pieces: 0,
  tokens: null,
});

export const withPiece = (pace: Pace, now: number): Pace => ({
  ...pace,
  firstAt: pace.firstAt ?? now,
  lastAt: now,
  pieces: pace.pieces + 1,
});

/** Time to first token, ms. */
export const ttft = ({ sentAt, firstAt }: Pace): number | null =>
  firstAt === null ? null : firstAt - sentAt;

/** After the first one; null while there are fewer than two, or all came at once. */
export function tokensPerSecond({ firstAt, lastAt, pieces, tokens }: Pace): number | null {
  const count = tokens ?? pieces;
  if (firstAt === null || lastAt === null || lastAt <= firstAt || count < 2) return null;
  return (1000 * (count - 1)) / (lastAt - firstAt);
}
