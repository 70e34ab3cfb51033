import { describe, expect, it } from 'vitest';
import { isSampled, readLoad, writeLoad } from '../../protocol/index.ts';

describe('x-graft-load', () => {
  it.each([
    { rows: 0, slots: 16, draining: false },
    { rows: 300, slots: 64, draining: true },
  ])('is read as it was written: %j', (load) => {
    expect(readLoad(writeLoad(load))).toEqual(load);
  });

  it.each([null, '', '1', '1/0', '-1/3', '1/2;dead', '1e9/3', '9999999/1', '1/2 '])(
    'refuses %j',
    (header) => {
      expect(readLoad(header)).toBeNull();
    },
  );
});

describe('isSampled', () => {
  const ids = Array.from({ length: 10_000 }, (_, i) => `req-${i}`);
  const share = (of: number) => ids.filter((id) => isSampled(id, of)).length / ids.length;

  it('takes about the share, all for 1 and none for 0', () => {
    expect([share(0), share(1)]).toEqual([0, 1]);
    // Four standard deviations of 10,000 draws.
    expect(Math.abs(share(0.1) - 0.1)).toBeLessThan(0.012);
    expect(Math.abs(share(0.5) - 0.5)).toBeLessThan(0.02);
  });

  it('keeps what a smaller share took', () => {
    for (const id of ids.slice(0, 1_000)) if (isSampled(id, 0.1)) expect(isSampled(id, 0.3)).toBe(true);
  });
});
