/** Numbers and times, as the page formats them. */

/** @returns such as `1.4 MB`; decimal units. */
export function bytes(value: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  let rest = value;
  while (rest >= 999.5 && at < units.length - 1) {
    rest /= 1000;
    at += 1;
  }
  return `${at === 0 || rest >= 100 ? Math.round(rest) : Number(rest.toPrecision(2))} ${units[at]}`;
}

/** Three digits that count. */
export function number(value: number): string {
  const rounded = Number(value.toPrecision(3));
  return Math.abs(rounded) >= 1000 ? Math.round(value).toLocaleString('en-US') : String(rounded);
}

/** @param share 0.12 = 12 %. */
export const percent = (share: number): string => `${number(100 * share)} %`;

/** With its sign, a minus instead of a hyphen. */
export const signed = (text: string): string =>
  text.startsWith('-') ? `−${text.slice(1)}` : /^0(?![.\d])/.test(text) ? text : `+${text}`;

/** @returns such as `420 ms`, `3.1 s`. */
export const duration = (ms: number): string =>
  ms < 999.5 ? `${number(Math.round(ms * 10) / 10)} ms` : ms < 120_000 ? `${number(ms / 1000)} s` : span(ms);

/** Roughly, such as `5 min`, `3 h`, `12 d`. */
function span(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.round(hours / 24)} d`;
}

/** In seconds at first; @returns such as `12 s`, `5 min`. */
export function lasting(ms: number): string {
  const seconds = Math.round(Math.max(0, ms) / 1000);
  return seconds < 60 ? `${seconds} s` : span(1000 * seconds);
}

/** @param now unix ms. @returns such as `12 s ago`. */
export function ago(at: number, now: number): string {
  return `${lasting(now - at)} ago`;
}

/** @returns such as `2026-11-25 10:58`, in the reader's time zone. */
export function moment(at: number): string {
  const date = new Date(at);
  const two = (value: number): string => String(value).padStart(2, '0');
  return (
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}`
  );
}

/** Of the reader's zone, such as `2026-11-25`. */
export const day = (at: number): string => moment(at).slice(0, 10);

/** @param at unix ms. @returns such as `10:58:03`, in the reader's time zone. */
export function clock(at: number): string {
  const date = new Date(at);
  return [date.getHours(), date.getMinutes(), date.getSeconds()]
    .map((value) => String(value).padStart(2, '0'))
    .join(':');
}

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

/** @param currency such as `USD`. @returns such as `12.34 USD`; four digits for less than a cent. */
export const money = (value: number, currency: string): string =>
  `${value.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: value < 1 ? 4 : 2 })} ${currency}`;
