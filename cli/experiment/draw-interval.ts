/** Intervals of lifts as lines of text, all on one scale with 0 marked. */
import { shareText } from './experiment-words.ts';

/** Drawing characters. Each is one column wide. */
export interface Glyphs {
  readonly left: string;
  readonly right: string;
  readonly line: string;
  readonly point: string;
  /** Background. */
  readonly zero: string;
  /** Where the line is. */
  readonly crossed: string;
  /** Marks an end beyond the scale. */
  readonly beyondLeft: string;
  readonly beyondRight: string;
}

export const UNICODE: Glyphs = {
  left: '├',
  right: '┤',
  line: '─',
  point: '●',
  zero: '│',
  crossed: '┼',
  beyondLeft: '←',
  beyondRight: '→',
};

export const ASCII: Glyphs = {
  left: '[',
  right: ']',
  line: '-',
  point: 'o',
  zero: '|',
  crossed: '+',
  beyondLeft: '<',
  beyondRight: '>',
};

/** Lines and dots need a UTF-8 locale; plain text (`NO_COLOR`) is ASCII, too. */
export function glyphsFor(env: Readonly<Record<string, string | undefined>>): Glyphs {
  const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || '';
  return /utf-?8/i.test(locale) && !env['NO_COLOR'] ? UNICODE : ASCII;
}

interface Estimate {
  low: number;
  estimate: number;
  high: number;
}

/** From 0 or less to 0 or more; never empty. */
export interface Scale {
  from: number;
  to: number;
}

/** A scale ends at one of these times a power of ten: readers interpolate. */
const NICE = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10];
/** Interval ends beyond this are cut off, unless an estimate is: lifts of few values are uncertain anyway. */
const MOST = 1;
/** Without any width. */
const LEAST = 0.01;

/** @param size not negative. @returns the smallest round number that is not less. */
function niceAbove(size: number): number {
  if (size === 0) return 0;
  const power = 10 ** Math.floor(Math.log10(size));
  const digit = NICE.find((one) => one * power >= size * (1 - 1e-9)) ?? 10;
  return Number((digit * power).toPrecision(2));
}

/** One scale for all of them, so that they can be compared visually. */
export function scaleOf(lifts: readonly Estimate[]): Scale {
  const cap = lifts.reduce((most, { estimate }) => Math.max(most, 2 * Math.abs(estimate)), MOST);
  const low = lifts.reduce((least, lift) => Math.min(least, lift.low), 0);
  const high = lifts.reduce((most, lift) => Math.max(most, lift.high), 0);
  const [from, to] = [niceAbove(Math.min(cap, -low)), niceAbove(Math.min(cap, high))];
  return from + to === 0 ? { from: -LEAST, to: LEAST } : { from: from === 0 ? 0 : -from, to };
}

const columnOf = (value: number, { from, to }: Scale, width: number): number =>
  Math.round(((Math.min(to, Math.max(from, value)) - from) / (to - from)) * (width - 1));

/** @param width columns, at least 3. @returns `width` columns. */
export function drawInterval(lift: Estimate, scale: Scale, width: number, glyphs: Glyphs): string {
  const cells = new Array<string>(width).fill(' ');
  const zero = columnOf(0, scale, width);
  const [low, point, high] = [lift.low, lift.estimate, lift.high].map((value) =>
    columnOf(value, scale, width),
  ) as [number, number, number];
  cells[zero] = glyphs.zero;
  for (let at = low; at <= high; at++) cells[at] = at === zero ? glyphs.crossed : glyphs.line;
  cells[low] = lift.low < scale.from ? glyphs.beyondLeft : glyphs.left;
  cells[high] = lift.high > scale.to ? glyphs.beyondRight : glyphs.right;
  cells[point] = glyphs.point;
  return cells.join('');
}

/** The scale's ends and its 0, each above its column, if there is room. @returns `width` columns. */
export function drawAxis(scale: Scale, width: number): string {
  const cells = new Array<string>(width).fill(' ');
  const zero = columnOf(0, scale, width);
  cells[zero] = '0';
  const put = (text: string, at: number): void => {
    // Adjacent labels would be read as one number.
    const room = cells.slice(Math.max(0, at - 1), at + text.length + 1);
    if (at >= 0 && at + text.length <= width && room.every((cell) => cell === ' '))
      for (const [i, letter] of [...text].entries()) cells[at + i] = letter;
  };
  if (scale.from < 0) put(shareText(scale.from), 0);
  const right = `+${shareText(scale.to)}`;
  if (scale.to > 0) put(right, width - right.length);
  return cells.join('');
}
