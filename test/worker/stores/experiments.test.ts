/** The ledger of experiments on D1 and on the fake. */
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll } from 'vitest';
import { createD1ExperimentLedger } from '../../../worker/stores/d1-experiments.ts';
import { createD1Registry } from '../../../worker/stores/d1-registry.ts';
import { experimentLedgerContract } from '../../contracts/experiments.ts';
import { createFakeExperimentLedger } from '../../fakes/fake-experiments.ts';
import { createFakeRegistry } from '../../fakes/fake-registry.ts';
import { openRealDatabase } from './real-database.ts';

let miniflare: Miniflare;
beforeAll(() => {
  miniflare = new Miniflare({
    modules: true,
    script: 'export default {}',
    d1Databases: ['DB'],
    compatibilityDate: '2026-05-03',
    cf: false,
  });
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
