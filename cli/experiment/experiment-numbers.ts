/** How commands about experiments read and print shares and means. */
import { usageError } from '../flags.ts';

/** Digits of a share: beyond a millionth nothing is dealt differently. */
const DIGITS = 12;
/** Digits of a mean that a reader compares. */
const MEAN_DIGITS = 4;

/**
 * @returns 0 to 1. @throws CliError (usage) when `text` is not such as `5%` or `0.05`. A bare `1` is refused: it would be
 * everybody, and was mostly meant to be one percent.
 */
export function parseShare(text: string, flag: string): number {
  const percent = /^(\d{1,3}(?:\.\d{1,6})?)%$/.exec(text)?.[1];
  const share =
    percent !== undefined
      ? Number((Number(percent) / 100).toPrecision(DIGITS))
      : /^\d?\.\d{1,12}$/.test(text)
        ? Number(text)
        : NaN;
  if (share >= 0 && share <= 1) return share;
  throw usageError(`${flag}: '${text}' is not a share, such as 5% or 0.05.`);
}

/** @returns a lift that is below 0, above -1. @throws CliError (usage) when `text` is not such as `-2%` or `-0.02`. */
export function parseLoss(text: string, flag: string): number {
  const loss = text.startsWith('-') ? parseShare(text.slice(1), flag) : NaN;
  if (loss > 0 && loss < 1) return -loss;
  throw usageError(`${flag}: '${text}' is not a lift below 0, such as -2% or -0.02.`);
}

/** @returns such as `5 %`, `0.1 %`, `33.3333 %`. */
export const shareText = (share: number): string => `${Number((100 * share).toPrecision(6))} %`;

/** @returns such as `31.2 %`. */
const rateText = (rate: number): string => `${(100 * rate).toFixed(1)} %`;

/** Of a lift or a difference of rates. @returns such as `+9.0 %`, `-0.4 %`, `0.0 %`. */
export function liftText(lift: number): string {
  // Beyond this a tenth of a percent says nothing.
  const text = (100 * lift).toFixed(Math.abs(lift) >= 10 ? 0 : 1);
  const none = Number(text) === 0;
  return `${none ? '0.0' : `${lift > 0 ? '+' : ''}${text}`} %`;
}

/** A unit's mean: of a proportion as a percentage, else in the metric's own unit. */
export const meanText = (mean: number, kind: 'proportion' | 'mean'): string =>
  kind === 'proportion' ? rateText(mean) : String(Number(mean.toPrecision(MEAN_DIGITS)));

/** A difference of means, with its sign; of proportions in percentage points. */
export function differenceText(difference: number, kind: 'proportion' | 'mean'): string {
  if (kind === 'proportion') return `${liftText(difference).slice(0, -2)} pp`;
  const text = meanText(difference, kind);
  return difference > 0 ? `+${text}` : text;
}

/** @returns such as `0.034`, `< 0.001`. */
export const pValueText = (p: number): string => (p < 0.001 ? '< 0.001' : String(Number(p.toPrecision(2))));
