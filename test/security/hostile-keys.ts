/** Keys that nobody was given. */
import { crc32 } from 'node:zlib';
import type { Random } from './random.ts';

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

const digits = (random: Random, count: number): string =>
  Array.from({ length: count }, () => random.pick([...DIGITS])).join('');

/** A key with the right checksum for any 27 digits. */
export function wellFormedKey(kind: 'gk' | 'ga', body: string): string {
  const key = `${kind}_${body}`;
  let rest = crc32(key);
  let sum = '';
  for (let i = 0; i < 6; i += 1) {
    sum = DIGITS.charAt(rest % 62) + sum;
    rest = Math.floor(rest / 62);
  }
  return key + sum;
}

/** Mistyped, cut, lengthened, of the other kind, or made up; never one with a right checksum. */
export function madeUpKey(random: Random, real: string): string {
  const at = random.below(real.length);
  switch (random.below(6)) {
    case 0:
      return `gk_${digits(random, 33)}`;
    case 1:
      return `ga_${digits(random, 33)}`;
    case 2: {
      const other = random.pick([...DIGITS].filter((digit) => digit !== real.charAt(at)));
      return real.slice(0, at) + other + real.slice(at + 1);
    }
    case 3:
      return real.slice(0, at);
    case 4:
      return real + digits(random, 1 + random.below(8));
    default:
      return digits(random, random.below(64));
  }
}
