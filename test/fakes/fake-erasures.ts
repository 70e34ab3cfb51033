import type { ErasureLedger } from '../../worker/erasure/ports.ts';
import { NOTHING } from '../../worker/erasure/erase-steps.ts';

/** Has nothing that could be erased; what is erased is looked at in the real database alone (test/worker/erasure). */
export function createFakeErasures(): ErasureLedger {
  const never = (): never => {
    throw new Error('nothing was begun');
  };
  return {
    owners: async () => [],
    ownerOfBegun: async () => null,
    plan: async () => ({
      ...{ id: 1, counts: NOTHING, kept: { files: 0, bytes: 0 }, stops: { versions: 0, experiments: 0 } },
      ...{ inTheWay: { versions: [], experiments: [] }, begun: false },
    }),
    discard: async () => undefined,
    get: async () => null,
    next: async () => null,
    ...{ begin: never, move: never, end: never, keys: never, experiments: never, forgetExperiments: never },
    ...{
      names: never,
      forgetNames: never,
      others: never,
      endAliases: never,
      files: never,
      releaseFile: never,
    },
    ...{ fileLeftTo: never, atOrigins: never, unused: never, forgetTraffic: never, forgetRequests: never },
    ...{
      forgetUsage: never,
      holders: never,
      forgetGrantsFrom: never,
      forgetHistory: never,
      forgetTenant: never,
    },
  };
}
