/** The ledger of experiments on D1 and on the fake. */
import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll } from 'vitest';
import { createD1ExperimentLedger } from '../../../worker/experiments/d1-experiments.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { experimentLedgerContract } from '../../contracts/experiments.ts';
import { createFakeExperimentLedger } from '../../fakes/fake-experiments.ts';
import { createFakeRegistry } from '../../fakes/fake-registry.ts';
import { openRealDatabase, startDatabases } from '../platform/real-database.ts';

let miniflare: Miniflare;
beforeAll(() => {
  miniflare = startDatabases();
});
afterAll(() => miniflare.dispose());

experimentLedgerContract('the fake', async () => {
  const registry = createFakeRegistry();
  return { registry, ledger: createFakeExperimentLedger(registry.forExperiments) };
});
experimentLedgerContract('D1', async () => {
  const db = await openRealDatabase(miniflare);
  return { registry: createD1Registry(db), ledger: createD1ExperimentLedger(db) };
});
