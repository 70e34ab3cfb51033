import { ExperimentId, sameJson, type Mended } from '../../protocol/index.ts';
import { REPAIR_PAGE } from '../limits.ts';
import type { ExperimentRow } from './ports.ts';
import { unlessDamaged, type RepairDeps, type RepairStep } from '../registry/repair-names.ts';

/**
 * Every experiment in KV that the system of record does not have, or that nobody is in and no name brings up to date:
 * drafts, and archived ones that KV has in use. It gets a mark. Others are written with their names.
 */
export const removeUnknownExperiments: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.listing.list({ prefix: 'experiment:', cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  for (const id of page.items) {
    // What is no id of an experiment is never read.
    if (!ExperimentId.safeParse(id).success) continue;
    const row = await unlessDamaged(deps.experimentLedger.get(id));
    if (row === 'damaged' || (row !== null && (await unlessDamaged(isKept(deps, row))))) continue;
    const found = await deps.experimentIndex.get(id);
    if (found.state === 'gone' || found.state === 'absent') continue;
    if (row !== null && found.state === 'found' && sameJson(found.value.document, row.document)) continue;
    mended.push({ kind: 'experiment', id, was: row === null ? 'unknown' : 'outdated', did: 'removed' });
    if (!dryRun) await deps.experimentIndex.remove(id);
  }
  return { checked: page.items.length, mended, cursor: page.cursor };
};

/** Whether its name's pointer has it, so that the names' step has seen to it. */
async function isKept({ registry }: RepairDeps, { id, document }: ExperimentRow): Promise<boolean> {
  const pointer = await registry.pointer(document.name);
  return pointer.kind === 'version' && pointer.experiment?.id === id;
}
