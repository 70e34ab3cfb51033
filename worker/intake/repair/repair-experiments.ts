import { ExperimentId } from '../../../protocol/index.ts';
import { REPAIR_PAGE } from '../../limits.ts';
import type { Mended, RepairStep } from './repair-deps.ts';

/**
 * Every experiment in KV that the system of record does not have: it gets a mark. Those that it has are written with
 * their names. One that is unknown has no name that is known to be its own, so that nobody else writes it meanwhile.
 */
export const removeUnknownExperiments: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.listing.list({ prefix: 'experiment:', cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  for (const id of page.items) {
    // What is no id of an experiment is never read.
    if (!ExperimentId.safeParse(id).success || (await deps.experimentLedger.get(id)) !== null) continue;
    const { state } = await deps.experimentIndex.get(id);
    if (state === 'gone' || state === 'absent') continue;
    mended.push({ kind: 'experiment', id, was: 'unknown', did: 'removed' });
    if (!dryRun) await deps.experimentIndex.remove(id);
  }
  return { checked: page.items.length, mended, cursor: page.cursor };
};
