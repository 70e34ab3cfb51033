import type { FileNames, OriginHistoryLedger, OriginMinute } from '../../worker/origins/ports.ts';

const FIGURES = [
  ...(['rowsRunning', 'requestsWaiting', 'slots'] as const),
  ...(['adaptersResident', 'adapterBytes', 'memoryBytes'] as const),
];

export function createFakeOriginHistory(): OriginHistoryLedger {
  let minutes: OriginMinute[] = [];
  return {
    async note(more) {
      const isNew = (one: OriginMinute) =>
        !more.some(({ at, origin }) => at === one.at && origin === one.origin);
      minutes = [...minutes.filter(isNew), ...structuredClone(more)];
    },
    async read({ origin, from, to, step }) {
      const steps = new Map<number, OriginMinute>();
      for (const minute of minutes) {
        if (minute.origin !== origin || minute.at < from || minute.at >= to) continue;
        const at = Math.floor(minute.at / step) * step;
        const most = steps.get(at) ?? { ...minute, at };
        for (const figure of FIGURES) most[figure] = Math.max(most[figure], minute[figure]);
        steps.set(at, most);
      }
      return [...steps.values()].sort((a, b) => a.at - b.at);
    },
    async forget(before) {
      minutes = minutes.filter(({ at }) => at >= before);
    },
  };
}

/** @param versionsOf a file's versions in the registry. */
export const createFakeFileNames = (
  versionsOf: (digest: string) => Promise<readonly { name: string; version: number; owner: string }[]>,
): FileNames => ({
  async of(digests, limit) {
    const found = await Promise.all(
      [...digests]
        .sort()
        .map(async (digest) =>
          (await versionsOf(digest)).map(({ name, version, owner }) => ({ digest, name, version, owner })),
        ),
    );
    return found.flat().slice(0, limit);
  },
});
