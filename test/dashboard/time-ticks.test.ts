import { expect, it } from 'vitest';
import { TICK_SECONDS, tickWords, timeRange } from '../../dashboard/model/time-series.ts';

/** In the machine's time zone, as a reader sees it. */
const at = (day: number, hour: number, minute = 0, second = 0): number =>
  new Date(2026, 10, day, hour, minute, second).getTime() / 1000;

it('labels times as finely as the ticks, with the date where a day begins', () => {
  expect(tickWords([at(25, 13, 53, 58), at(25, 13, 53, 59), at(25, 13, 54)])).toEqual([
    '13:53:58\n2026-11-25',
    '13:53:59',
    '13:54:00',
  ]);
  expect(tickWords([at(25, 23, 30), at(26, 0), at(26, 0, 30)])).toEqual([
    '23:30\n2026-11-25',
    '00:00\n2026-11-26',
    '00:30',
  ]);
  expect(tickWords([at(25, 0), at(26, 0)])).toEqual(['2026-11-25', '2026-11-26']);
});

it('accepts one tick, or none', () => {
  expect(tickWords([at(25, 9, 5, 7)])).toEqual(['09:05:07\n2026-11-25']);
  expect(tickWords([])).toEqual([]);
});

it('never gives two ticks the same label, whatever the step', () => {
  for (const step of TICK_SECONDS) {
    const words = tickWords(Array.from({ length: 12 }, (_, i) => at(1, 0) + i * step));
    const days = words.map((_, i) => words.slice(0, i + 1).findLast((word) => /-/.test(word)));
    expect(new Set(words.map((word, i) => `${days[i]} ${word}`)).size).toBe(12);
  }
  expect([...TICK_SECONDS]).toEqual(TICK_SECONDS.toSorted((a, b) => a - b));
});

it('shows an hour around a single look', () => {
  expect(timeRange(at(25, 9), at(25, 9))).toEqual([at(25, 8, 30), at(25, 9, 30)]);
  expect(timeRange(at(25, 9), at(26, 9))).toEqual([at(25, 9), at(26, 9)]);
});
