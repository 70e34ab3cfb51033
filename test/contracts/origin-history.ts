import { expect, it } from 'vitest';
import type { OriginHistoryLedger, OriginMinute } from '../../worker/origins/ports.ts';

export const MINUTE: OriginMinute = {
  ...{ origin: 'o1', at: 600, rowsRunning: 2, requestsWaiting: 1, slots: 8 },
  ...{ adaptersResident: 3, adapterBytes: 400, memoryBytes: 5_000 },
};

export function originHistoryContract(backend: string, make: () => Promise<OriginHistoryLedger>): void {
  it(`keeps minutes of origins, and gives the most of a step, on ${backend}`, async () => {
    const ledger = await make();
    await ledger.note([MINUTE, { ...MINUTE, origin: 'o2', rowsRunning: 7 }]);
    await ledger.note([{ ...MINUTE, at: 660, rowsRunning: 5, requestsWaiting: 0 }]);
    await ledger.note([{ ...MINUTE, at: 900, rowsRunning: 1 }]);
    // The last of a minute stays.
    await ledger.note([{ ...MINUTE, at: 900, rowsRunning: 0 }]);
    const read = (step: number, more: object = {}) =>
      ledger.read({ origin: 'o1', from: 0, to: 1_200, step, ...more });
    expect(await read(300)).toEqual([
      { ...MINUTE, at: 600, rowsRunning: 5, requestsWaiting: 1 },
      { ...MINUTE, at: 900, rowsRunning: 0 },
    ]);
    expect((await read(60)).map(({ at, rowsRunning }) => [at, rowsRunning])).toEqual([
      [600, 2],
      [660, 5],
      [900, 0],
    ]);
    expect(await read(300, { to: 900 })).toHaveLength(1);
    expect(await read(300, { origin: 'o3' })).toEqual([]);
    await ledger.forget(660);
    expect((await read(60)).map(({ at }) => at)).toEqual([660, 900]);
    expect(await read(60, { origin: 'o2' })).toEqual([]);
  });
}
