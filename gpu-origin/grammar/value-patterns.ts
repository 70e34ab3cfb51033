/** Values of JSON Schema as regular expressions: its formats, and numbers between bounds. */
import { GrammarError } from './ebnf.ts';

/** Parts of formats; each text that matches is valid, not the other way round. */
const HOUR_MINUTE = '([01]\\d|2[0-3]):[0-5]\\d';
const DATE =
  '[12]\\d{3}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))';
const TIME = `${HOUR_MINUTE}:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]${HOUR_MINUTE})`;
const BYTE = '(\\d|[1-9]\\d|1\\d\\d|2[0-4]\\d|25[0-5])';
const LABEL = '[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?';
const HOST = `${LABEL}(\\.${LABEL}){0,3}`;

export const FORMATS: ReadonlyMap<string, string> = new Map([
  ['date', DATE],
  ['time', TIME],
  ['date-time', `${DATE}T${TIME}`],
  [
    'duration',
    'P(\\d{1,4}W|\\d{1,4}Y(\\d{1,2}M(\\d{1,3}D)?)?|\\d{1,2}M(\\d{1,3}D)?|\\d{1,3}D|T(\\d{1,4}H(\\d{1,2}M(\\d{1,2}S)?)?|\\d{1,4}M(\\d{1,2}S)?|\\d{1,5}S))',
  ],
  ['email', `[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@${LABEL}(\\.${LABEL}){1,3}`],
  ['hostname', HOST],
  ['ipv4', `${BYTE}\\.${BYTE}\\.${BYTE}\\.${BYTE}`],
  ['ipv6', '([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}'],
  ['uuid', '[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}'],
  [
    'uri',
    `https?://${HOST}(:[1-9]\\d{1,3})?(/[A-Za-z0-9._~-]+)*/?(\\?[A-Za-z0-9._~=&-]+)?(#[A-Za-z0-9._~-]+)?`,
  ],
]);

interface Bounds {
  /** Whole; -Infinity = none. */
  min: number;
  max: number;
  /** The bound itself is left out. */
  aboveMin: boolean;
  belowMax: boolean;
}

/** Digits of a number that has no bound on this side. */
const MOST_DIGITS = 15;
const UNBOUNDED = 10 ** MOST_DIGITS - 1;
const FRACTION = '\\.[0-9]{1,15}';
/** Anything but zeros. */
const SOME_FRACTION = '\\.[0-9]{0,14}[1-9]';

/** Whole numbers of JSON: no exponents, no leading zeros. @throws GrammarError when there is no such number. */
export function integerBetween({ min, max, aboveMin, belowMax }: Bounds): string {
  const low = Math.max(Math.ceil(aboveMin && Number.isInteger(min) ? min + 1 : min), -UNBOUNDED);
  const high = Math.min(Math.floor(belowMax && Number.isInteger(max) ? max - 1 : max), UNBOUNDED);
  if (low > high) throw new GrammarError('has no value: the least is above the most');
  const parts: string[] = [];
  if (low < 0) parts.push(`-(${wholeBetween(Math.max(1, -high), -low)})`);
  if (high >= 0) parts.push(wholeBetween(Math.max(0, low), high));
  return `(${parts.join('|')})`;
}

/** The same with fractions. @throws GrammarError when there is no such number. */
export function numberBetween(bounds: Bounds): string {
  const { min, max } = bounds;
  if (min > max || (min === max && (bounds.aboveMin || bounds.belowMax)))
    throw new GrammarError('has no value: the least is above the most');
  const parts: string[] = [];
  if (min < 0)
    parts.push(
      `-${magnitude({
        ...{ min: Math.max(0, -max), max: -min },
        ...{ aboveMin: max > 0 ? false : bounds.belowMax, belowMax: bounds.aboveMin },
      })}`,
    );
  if (max > 0 || (max === 0 && !bounds.belowMax))
    parts.push(magnitude({ ...bounds, min: Math.max(0, min), aboveMin: min >= 0 && bounds.aboveMin }));
  return `(${parts.join('|')})`;
}

/** @param bounds of 0 or more, whole. */
function magnitude({ min, max, aboveMin, belowMax }: Bounds): string {
  const high = Math.min(max, UNBOUNDED);
  const parts: string[] = [];
  // Whole parts from which every fraction stays below the bound.
  const last = high - 1;
  if (aboveMin && min <= last) {
    parts.push(`(${wholeBetween(min, min)})${SOME_FRACTION}`);
    if (min + 1 <= last) parts.push(`(${wholeBetween(min + 1, last)})(${FRACTION})?`);
  } else if (min <= last) parts.push(`(${wholeBetween(min, last)})(${FRACTION})?`);
  if (!belowMax && (high > min || !aboveMin)) parts.push(`(${wholeBetween(high, high)})(\\.0{1,3})?`);
  if (parts.length === 0) throw new GrammarError('has no value: the least is above the most');
  return `(${parts.join('|')})`;
}

/** @param low 0 or more. */
function wholeBetween(low: number, high: number): string {
  const parts: string[] = [];
  const most = String(high).length;
  for (let digits = String(low).length; digits <= most; digits += 1) {
    const from = Math.max(low, digits === 1 ? 0 : 10 ** (digits - 1));
    const to = Math.min(high, 10 ** digits - 1);
    if (from <= to) parts.push(sameLength(String(from), String(to)));
  }
  return parts.join('|');
}

function sameLength(from: string, to: string): string {
  if (from === '') return '';
  const rest = from.length - 1;
  const any = rest === 0 ? '' : `[0-9]{${rest}}`;
  const [a, b] = [Number(from[0]), Number(to[0])];
  const all = (first: number, last: number): string => `[${first}-${last}]${any}`;
  if (rest === 0) return all(a, b);
  const lowest = /^0*$/.test(from.slice(1));
  const highest = /^9*$/.test(to.slice(1));
  if (a === b && !(lowest && highest)) return `${a}(${sameLength(from.slice(1), to.slice(1))})`;
  const parts: string[] = [];
  const first = lowest ? a : a + 1;
  const last = highest ? b : b - 1;
  if (!lowest) parts.push(`${a}(${sameLength(from.slice(1), '9'.repeat(rest))})`);
  if (first <= last) parts.push(all(first, last));
  if (!highest) parts.push(`${b}(${sameLength('0'.repeat(rest), to.slice(1))})`);
  return parts.join('|');
}
