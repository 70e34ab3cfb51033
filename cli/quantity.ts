import { usageError } from './flags.ts';

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 } as const;

/** @returns ms. @throws CliError when `text` is not such as `90s`, `45m`, `12h`, `30d`, `4w`; 0 needs no unit. */
export function parseDuration(text: string, flag: string): number {
  if (text === '0') return 0;
  const match = /^(\d{1,6})([smhdw])$/.exec(text);
  if (match === null) throw usageError(`${flag} ${text} is not a time such as 90s, 45m, 12h, 30d or 4w.`);
  return Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS];
}

const FACTOR = { '': 1, k: 1_000, M: 1_000_000 } as const;

/** @throws CliError when `text` is not a whole number above 0, such as `60`, `100k` or `2M`. */
export function parseCount(text: string, flag: string): number {
  const match = /^(\d{1,12})([kM]?)$/.exec(text);
  const count = match === null ? 0 : Number(match[1]) * FACTOR[(match[2] ?? '') as keyof typeof FACTOR];
  if (count > 0) return count;
  throw usageError(`${flag} ${text} is not a whole number above 0, such as 60, 100k or 2M.`);
}
