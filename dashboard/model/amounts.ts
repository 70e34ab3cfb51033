/** Counts and money, as the page writes them. */
import { number } from './words.ts';

/** @returns such as `842`, `12.4 k`, `3.1 M`. */
export function amount(value: number): string {
  const units = ['', ' k', ' M', ' G', ' T'];
  let at = 0;
  let rest = value;
  while (rest >= 999.5 && at < units.length - 1) {
    rest /= 1000;
    at += 1;
  }
  return at === 0 ? String(Math.round(rest)) : `${number(rest)}${units[at]}`;
}

/** All digits, in groups of three. */
export const whole = (value: number): string => Math.round(value).toLocaleString('en-US');

/** @param currency such as `USD`. @returns such as `12.34 USD`; four digits where cents would be nothing. */
export const money = (value: number, currency: string): string =>
  `${value.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: value < 1 ? 4 : 2 })} ${currency}`;
