import { nameProblem, sameJson, type NameEntry } from '../../protocol/index.ts';
import { REPAIR_PAGE } from '../limits.ts';
import type { ExperimentEntry } from '../experiments/ports.ts';
import { MAX_KEYS_AT_ONCE, type Lookup } from '../platform/ports.ts';
import type { NameRow, PointedExperiment, Pointer } from './ports.ts';
import { experimentEntryOf, nameEntryOf } from './write-pointer.ts';
import type { Mended, RepairDeps, RepairStep } from './repair-deps.ts';

/** Every name that the system of record has: its pointer, and the experiment that it has or had, are as they ought to be. */
export const repairNames: RepairStep = async (deps, { cursor, dryRun, actor }) => {
  const page = await deps.registry.pointers({ cursor, limit: REPAIR_PAGE });
  const names = page.items.map(({ name }) => name.name);
  const lookups: Lookup<NameEntry>[] = [];
  for (let at = 0; at < names.length; at += MAX_KEYS_AT_ONCE)
    lookups.push(...(await deps.nameIndex.getMany(names.slice(at, at + MAX_KEYS_AT_ONCE))));
  const mended: Mended[] = [];
  for (const [i, { name, pointer }] of page.items.entries()) {
    const found: Mended[] = [];
    const wrong = problemOf(name.name, pointer, lookups[i] as Lookup<NameEntry>);
    if (wrong !== null) found.push({ kind: 'name', id: name.name, ...wrong });
    const experiment = pointer.kind === 'version' ? pointer.experiment : undefined;
    if (experiment !== undefined) {
      const was = experimentProblem(experiment, await deps.experimentIndex.get(experiment.id));
      if (was !== null) found.push({ kind: 'experiment', id: experiment.id, was, did: 'written' });
    }
    // One write of the pointer brings both.
    if (found.length > 0 && !dryRun) await mend(deps, name, actor);
    mended.push(...found);
  }
  return { checked: names.length, mended, cursor: page.cursor };
};

async function mend({ registry, pointers, now }: RepairDeps, name: NameRow, actor: string): Promise<void> {
  await pointers.sync(name.name, { mark: true });
  // Somebody who changed the name meanwhile has written its pointer too: then there is nothing to tell.
  await registry.repaired({ before: name, actor, at: now() });
}

function problemOf(
  name: string,
  pointer: Pointer,
  lookup: Lookup<NameEntry>,
): Pick<Mended, 'was' | 'did'> | null {
  const nothing = pointer.kind === 'none' || pointer.kind === 'gone';
  const did = nothing ? 'removed' : 'written';
  switch (lookup.state) {
    case 'trouble':
      return { was: 'unreadable', did };
    case 'absent':
    case 'gone':
      return nothing ? null : { was: 'missing', did };
    case 'found':
      return !nothing && sameJson(lookup.value, nameEntryOf(name, pointer)) ? null : { was: 'outdated', did };
  }
}

function experimentProblem(
  experiment: PointedExperiment,
  lookup: Lookup<ExperimentEntry>,
): Mended['was'] | null {
  switch (lookup.state) {
    case 'trouble':
      return 'unreadable';
    case 'absent':
    case 'gone':
      return 'missing';
    case 'found':
      return sameJson(lookup.value, experimentEntryOf(experiment)) ? null : 'outdated';
  }
}

/** Every name in KV that the system of record does not have: it gets a mark. */
export const removeUnknownNames: RepairStep = async (deps, { cursor, dryRun }) => {
  const page = await deps.listing.list({ prefix: 'name:', cursor, limit: REPAIR_PAGE });
  const mended: Mended[] = [];
  for (const name of page.items) {
    // One that is no legal name is never read.
    if (nameProblem(name) !== null || (await deps.registry.name(name)) !== null) continue;
    const { state } = await deps.nameIndex.get(name);
    if (state === 'gone' || state === 'absent') continue;
    mended.push({ kind: 'name', id: name, was: 'unknown', did: 'removed' });
    if (!dryRun) await deps.pointers.sync(name, { mark: true });
  }
  return { checked: page.items.length, mended, cursor: page.cursor };
};
