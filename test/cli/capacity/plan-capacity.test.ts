import { describe, expect, it } from 'vitest';
import {
  adapterBytes,
  ASSUMPTIONS,
  type CapacityInput,
  planCapacity,
} from '../../../cli/capacity/plan-capacity.ts';

const input: CapacityInput = {
  ...{ names: 1_000_000, rank: 16, params: '8b', modules: 'all', rps: 200, tokens: 256, gpu: 'h100' },
};

describe('graft capacity', () => {
  it.each([
    // 16 x 32 layers x (2 x 8192 + 2 x 5120 + 3 x 18432) values of 2 bytes.
    ['8b', 16, 'all', 83_886_080],
    ['8b', 8, 'qv', 6_815_744],
    ['1b', 16, 'qv', 16 * 16 * (4_096 + 2_560) * 2],
    ['70b', 64, 'all', 64 * 80 * (2 * 16_384 + 2 * 9_216 + 3 * 36_864) * 2],
  ] as const)('knows that an adapter of %s, rank %i, %s is %i bytes', (params, rank, modules, bytes) => {
    expect(adapterBytes({ params, rank, modules })).toBe(bytes);
  });

  it('reckons storage and its price, which is what KV and R2 differ in', () => {
    const { storageGb, parts, kvAlone, kvAndR2 } = planCapacity(input);
    expect(storageGb).toBeCloseTo(83_886.08);
    expect(parts).toBe(4);
    // 83,886 GB at $0.5 and $0.015, and a GB of names in KV.
    expect(kvAlone.storage).toBeCloseTo(41_943.54);
    expect(kvAndR2.storage).toBeCloseTo(1_258.79);
    // 518.4 million requests.
    expect(kvAlone.requests).toBeCloseTo(5 + 508.4 * 0.3);
    expect(kvAlone.cpu).toBeCloseTo((2_592 - 30) * 0.02);
    expect(kvAlone.reads).toBeCloseTo(518.4 * 2 * 0.5 + 518.4 * 0.02 * 5 * 0.5);
    expect(kvAlone.upload).toBeCloseTo(30);
    for (const cost of [kvAlone, kvAndR2])
      expect(cost.total).toBeCloseTo(cost.storage + cost.requests + cost.cpu + cost.reads);
  });

  it.each([
    ['l4', 25],
    ['a100', 256],
    ['h100', 256],
  ] as const)('fits rows into the memory of %s', (gpu, rows) => {
    const { origin } = planCapacity({ ...input, gpu });
    // What is left beside the base, by what a row needs: keys and values of 1,024 tokens, and an adapter of its own.
    expect(origin?.rows).toBeLessThanOrEqual(rows);
    expect(origin?.rows).toBeGreaterThan(0.9 * rows - 1);
    expect(origin!.residentAdapters).toBeGreaterThanOrEqual(origin!.rows);
  });

  it('wants origins as tokens do, and says when the base does not fit', () => {
    const once = planCapacity(input).origins!;
    const twice = planCapacity({ ...input, rps: 400 }).origins!;
    expect(once).toBeGreaterThan(1);
    expect(Math.abs(twice - 2 * once)).toBeLessThanOrEqual(1);
    expect(planCapacity({ ...input, params: '70b' })).toMatchObject({ origin: null, origins: null });
  });

  it('has a source and a date for all that it assumes', () => {
    for (const { source, date, unit } of Object.values(ASSUMPTIONS)) {
      expect(source).not.toBe('');
      expect(unit).not.toBe('');
      expect(date).toMatch(/^20\d\d-\d\d$/);
    }
  });
});
