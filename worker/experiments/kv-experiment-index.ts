import { createSealedIndex, type SealedIndexParams } from '../platform/sealed-index.ts';
import { ExperimentEntry, type ExperimentIndex } from './ports.ts';

/** `experiment:<id>` -> sealed document and manifests of an experiment that is live, or was; or a sealed tombstone. */
export function createKvExperimentIndex(params: SealedIndexParams): ExperimentIndex {
  const { get, put, remove } = createSealedIndex({
    ...{ ...params, prefix: 'experiment:', schema: ExperimentEntry },
    idOf: ({ id }) => id,
  });
  return { get, remove, put: (entry) => put(entry.id, entry) };
}
