import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ago,
  bytes,
  duration,
  lasting,
  moment,
  number,
  percent,
  signed,
} from '../../dashboard/model/words.ts';

const SECOND = 1_000;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

it.each([
  [0, '0 B'],
  [999, '999 B'],
  [1_000, '1 kB'],
  [1_449, '1.4 kB'],
  [99_960, '100 kB'],
  [999_499, '999 kB'],
  [999_500, '1 MB'],
  [12_345_678, '12 MB'],
  [3e15, '3000 TB'],
])('%d bytes are %j', (value, text) => {
  expect(bytes(value)).toBe(text);
});

it.each([
  [0, '0'],
  [-0, '0'],
  [0.12345, '0.123'],
  [-12.345, '-12.3'],
  [999.4, '999'],
  // Rounded up, it is as long as one that was as large before.
  [999.6, '1,000'],
  [-999.6, '-1,000'],
  [1_234.5, '1,235'],
  [1_234_567, '1,234,567'],
])('the number %d is %j', (value, text) => {
  expect(number(value)).toBe(text);
});

it.each([
  [0.07, '7 %'],
  [1, '100 %'],
  [0.00123, '0.123 %'],
  [-0.5, '-50 %'],
  [12, '1,200 %'],
])('the share %d is %j', (share, text) => {
  expect(percent(share)).toBe(text);
});

describe('signs', () => {
  it.each([
    ['3', '+3'],
    ['-3 %', '−3 %'],
    ['0', '0'],
    ['0 %', '0 %'],
    ['0.5', '+0.5'],
    ['0.5 %', '+0.5 %'],
    ['-0.5', '−0.5'],
    ['1,000', '+1,000'],
  ])('%j is written %j', (text, written) => {
    expect(signed(text)).toBe(written);
  });

  it('distinguish above from below 0', () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e6, max: 1e6 }), fc.constantFrom(1, 1e-3, 1e-6), (count, unit) => {
        const value = count * unit;
        const first = signed(number(value)).charAt(0);
        expect(first).toBe(value > 0 ? '+' : value < 0 ? '−' : '0');
      }),
    );
  });
});

it.each([
  [0, '0 ms'],
  [3.14159, '3.1 ms'],
  [420.4, '420 ms'],
  [3_140, '3.14 s'],
  [119_000, '119 s'],
  [120_000, '2 min'],
  [119 * MINUTE, '119 min'],
  [2 * HOUR, '2 h'],
  [47 * HOUR, '47 h'],
  [2 * DAY, '2 d'],
])('%d ms take %j', (ms, text) => {
  expect(duration(ms)).toBe(text);
});

it.each([
  // Clocks differ.
  [-5 * SECOND, '0 s ago'],
  [12_400, '12 s ago'],
  // Never 60 s.
  [59_600, '1 min ago'],
  [MINUTE, '1 min ago'],
  [3 * HOUR, '3 h ago'],
  [12 * DAY, '12 d ago'],
])('%d ms ago are %j', (ms, text) => {
  expect(ago(1e12 - ms, 1e12)).toBe(text);
  expect(lasting(ms)).toBe(text.replace(' ago', ''));
});

it("writes a moment in the reader's time zone", () => {
  expect(moment(new Date(2026, 10, 5, 9, 8, 59).getTime())).toBe('2026-11-05 09:08');
});
