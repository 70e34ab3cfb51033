import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { originRates } from '../../dashboard/views/origins.tsx';
import type { OriginFigures } from '../../protocol/origin-wire.ts';

const START = 1_000_000;
const figures = (more: Partial<OriginFigures> = {}): OriginFigures => ({
  ...{ started_at: START, rows_running: 0, requests_waiting: 0, requests_loading: 0, slots: 8 },
  ...{ kv_tokens: 0, kv_capacity_tokens: 100, memory_bytes: 1, adapters_resident: 0, adapter_bytes: 0 },
  ...{ adapter_budget_bytes: 1, prompt_tokens: 0, completion_tokens: 0, requests_finished: 0 },
  ...{ adapter_loads: 0, adapter_evictions: 0 },
  first_token: { count: 10, seconds: 2 },
  next_token: { count: 90, seconds: 1.8 },
  decode: { steps: 45, rows: 90 },
  ...more,
});
const later = figures({
  first_token: { count: 14, seconds: 4 },
  next_token: { count: 126, seconds: 5.4 },
  decode: { steps: 57, rows: 126 },
});

describe('the rates of an origin', () => {
  const sinceStart = { throughput: null, ttft: 200, perToken: 20, batch: 2, since: 'start' };

  it('are averages since its start, without throughput, at the first request', () => {
    expect(originRates(null, { at: START + 10_000, figures: figures() })).toEqual({
      ...sinceStart,
      perToken: expect.closeTo(20),
    });
  });

  it('are those between two answers', () => {
    const rates = originRates(
      { at: START + 10_000, figures: figures() },
      { at: START + 12_000, figures: later },
    );
    expect(rates).toEqual({
      ...{ throughput: 20, ttft: 500, batch: 3, since: 'earlier' },
      perToken: expect.closeTo(100),
    });
  });

  it.each<[string, number, Partial<OriginFigures>]>([
    ['before a restart', START + 5_000, { started_at: START - 1 }],
    ['of the same moment', START + 10_000, {}],
    ['that came after', START + 11_000, {}],
  ])('ignore an answer %s', (_what, at, more) => {
    const earlier = { at, figures: figures(more) };
    expect(originRates(earlier, { at: START + 10_000, figures: figures() })).toMatchObject({
      throughput: null,
      since: 'start',
    });
  });

  it('are missing while nothing happened', () => {
    const still = { throughput: 0, ttft: null, perToken: null, batch: null, since: 'earlier' };
    expect(originRates({ at: START, figures: later }, { at: START + 1, figures: later })).toEqual(still);
  });

  it('are finite, whatever the clocks say', () => {
    fc.assert(
      fc.property(fc.integer({ min: -60_000, max: 60_000 }), fc.nat(1_000), (ms, count) => {
        const now = figures({ first_token: { count, seconds: count / 4 } });
        const none = figures({ first_token: { count: 0, seconds: 0 } });
        const rates = originRates({ at: START, figures: none }, { at: START + ms, figures: now });
        expect(rates.throughput === null || Number.isFinite(rates.throughput)).toBe(true);
        expect(rates.ttft).toBe(count === 0 ? null : 250);
      }),
    );
  });
});
