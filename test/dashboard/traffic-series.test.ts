import { describe, expect, it, vi } from 'vitest';
import { amount, money, whole } from '../../dashboard/model/words.ts';
import {
  fromFirst,
  gridOf,
  type Point,
  roundedUp,
  tickWords,
  timeTicks,
  usageSeries,
  valuesOf,
} from '../../dashboard/model/time-series.ts';

const HOUR = 3_600_000;
const from = Date.UTC(2026, 2, 31);
const day = { from: new Date(from).toISOString(), to: new Date(from + 24 * HOUR).toISOString() };
const point = (at: number, requests: number): Point => ({
  ...{ at, requests, errors: 0, prompt_tokens: 0, completion_tokens: 0 },
  ttft_ms: { p50: null, p95: null },
  duration_ms: { p50: 5, p95: 9 },
});

describe('traffic over time', () => {
  it('has a value for each step, with or without requests', () => {
    const grid = gridOf({ ...day, step: 3600 });
    expect([grid.times.length, grid.times[0], grid.times.at(-1)]).toEqual([24, from, from + 23 * HOUR]);
    const points = [point(from + HOUR, 3), point(from + 3 * HOUR, 1)];
    expect(valuesOf(grid, points, ({ requests }) => requests, 0).slice(0, 5)).toEqual([0, 3, 0, 1, 0]);
    expect(valuesOf(grid, points, ({ ttft_ms: ttft }) => ttft.p50, null).slice(0, 3)).toEqual([
      null,
      null,
      null,
    ]);
  });

  it('starts at the first request if most of the time before is empty', () => {
    const grid = gridOf({ ...day, step: 300 });
    const begins = (hours: number, more: Point[] = []) =>
      (fromFirst(grid, [...more, point(from + hours * HOUR, 1)]).times[0]! - from) / HOUR;
    expect([13, 20, 21.5].map((hours) => begins(hours))).toEqual([13, 20, 21.5]);
    // Two hours at least, so that a bar is no block.
    expect([22.5, 23 + 11 / 12].map((hours) => begins(hours))).toEqual([22, 22]);
    expect([0, 12].map((hours) => begins(hours))).toEqual([0, 0]);
    expect(begins(20, [point(from + HOUR, 1)])).toBe(0);
    expect(fromFirst(grid, [])).toEqual(grid);
    const few = { times: [1, 2, 3], step: 1 };
    expect(fromFirst(few, [{ at: 3 }])).toEqual(few);
  });

  it('places usage by hour or day, in UTC', () => {
    const row = { requests: 1, errors: 0, prompt_tokens: 2, completion_tokens: 3, total_tokens: 5 };
    const hours = usageSeries({ ...day, by: 'hour', rows: [{ ...row, group: '2026-03-31T07' }] });
    expect(hours.grid).toEqual(gridOf({ ...day, step: 3600 }));
    expect(valuesOf(hours.grid, hours.points, ({ requests }) => requests, 0).indexOf(1)).toBe(7);
    const month = {
      from: new Date(from + 7 * HOUR).toISOString(),
      to: new Date(from + (30 * 24 + 8) * HOUR).toISOString(),
    };
    const days = usageSeries({ ...month, by: 'day', rows: [{ ...row, group: '2026-04-30' }] });
    expect([days.grid.times.length, days.grid.times[0]]).toEqual([31, from]);
    expect(valuesOf(days.grid, days.points, ({ requests }) => requests, 0).indexOf(1)).toBe(30);
  });

  it('ends its axes at round numbers', () => {
    expect([0, 1, 7, 11, 1_050, 250, 0.3].map(roundedUp)).toEqual([1, 1, 8, 12, 1_200, 300, 0.3]);
  });

  it('has no more time labels than fit, at whole hours or days', () => {
    const grid = gridOf({ ...day, step: 300 });
    const hours = (ticks: number[]) => ticks.map((at) => new Date(at).getHours());
    expect(hours(timeTicks(grid, 4)).every((hour) => hour % 6 === 0)).toBe(true);
    expect(timeTicks(grid, 4).length).toBeLessThanOrEqual(5);
    // As many as a telephone is wide.
    expect(timeTicks(grid, 3)).toHaveLength(3);
    const month = { from: day.from, to: new Date(from + 720 * HOUR).toISOString(), step: 10_800 };
    expect(timeTicks(gridOf(month), 6).length).toBeLessThanOrEqual(7);
  });

  it('labels each day once, even across clock changes', () => {
    vi.stubEnv('TZ', 'Europe/Berlin');
    const days = (begin: number) => {
      const to = new Date(begin + 120 * HOUR).toISOString();
      const ticks = timeTicks(gridOf({ from: new Date(begin).toISOString(), to, step: 3_600 }), 8);
      return tickWords(ticks.map((at) => at / 1000));
    };
    const of = (month: string, from: number) => [0, 1, 2, 3, 4].map((i) => `2026-${month}-${from + i}`);
    expect(days(Date.UTC(2026, 9, 23))).toEqual(of('10', 24));
    expect(days(Date.UTC(2026, 2, 26))).toEqual(of('03', 27));
  });

  it('has several labels for an hour, without seconds', () => {
    const begin = new Date(2026, 10, 28, 9, 10).getTime();
    const hour = { from: new Date(begin).toISOString(), to: new Date(begin + HOUR).toISOString(), step: 60 };
    expect(tickWords(timeTicks(gridOf(hour), 5).map((at) => at / 1000))).toEqual([
      '09:15\n2026-11-28',
      ...['09:30', '09:45', '10:00'],
    ]);
  });

  it('writes counts and money', () => {
    expect([0, 842, 999.4, 12_400, 3_140_000].map(amount)).toEqual(['0', '842', '999', '12.4 k', '3.14 M']);
    expect(whole(1_234_567)).toBe('1,234,567');
    expect(money(12.345, 'USD')).toBe('12.35 USD');
    expect(money(0.0012, 'EUR')).toBe('0.0012 EUR');
    expect(money(0, 'EUR')).toBe('0.00 EUR');
  });
});
