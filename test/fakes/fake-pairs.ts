import { createDoPairs, PairTally, type PairStorage } from '../../worker/experiments/pairs/pairs-object.ts';
import type { PairTallies } from '../../worker/experiments/pairs/ports.ts';
import { WAIT_MS } from '../setup/slow.ts';

export interface FakePairs extends PairTallies {
  /** Every call fails while it is set. */
  down: boolean;
  /** Rings the alarm of an experiment's object. */
  ring(experiment: string, at: number): Promise<void>;
}

/** The real objects, each on a map in the place of its storage. */
export function createFakePairs(now: () => number = Date.now): FakePairs {
  const objects = new Map<string, PairTally>();
  let clock: number | null = null;
  const objectOf = (name: string): PairTally => {
    const known = objects.get(name);
    if (known !== undefined) return known;
    const object = new PairTally({ storage: mapStorage() }, undefined, { now: () => clock ?? now() });
    objects.set(name, object);
    return object;
  };
  const namespace = {
    idFromName: (name: string) => name,
    get: (id: unknown) => ({
      fetch: (url: string, init?: RequestInit) => {
        if (fake.down) return Promise.reject(new Error('down'));
        return objectOf(id as string).fetch(new Request(url, init));
      },
    }),
  };
  const fake: FakePairs = {
    ...createDoPairs({ namespace, timeoutMs: WAIT_MS }),
    down: false,
    async ring(experiment, at) {
      clock = at;
      await objectOf(experiment).alarm();
      clock = null;
    },
  };
  return fake;
}

/** A Durable Object's storage, as far as pairs use it. Values are copies. */
export function mapStorage(): PairStorage {
  const values = new Map<string, unknown>();
  let alarm: number | null = null;
  return {
    get: async <T>(key: string) => structuredClone(values.get(key)) as T | undefined,
    async put(key, value) {
      values.set(key, structuredClone(value));
    },
    async delete(keys) {
      for (const key of keys) values.delete(key);
    },
    async list<T>({ prefix, reverse, limit }: { prefix: string; reverse?: boolean; limit?: number }) {
      const found = [...values]
        .filter(([key]) => key.startsWith(prefix))
        .sort(([a], [b]) => (a < b ? -1 : 1));
      if (reverse === true) found.reverse();
      return new Map(found.slice(0, limit)) as Map<string, T>;
    },
    getAlarm: async () => alarm,
    async setAlarm(at) {
      alarm = at;
    },
    async deleteAll() {
      values.clear();
    },
  };
}
