/** The ledger of experiments on D1 and on the fake. */
import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll } from 'vitest';
import {
  createD1ExperimentLedger,
  createD1WebhookOutbox,
} from '../../../worker/experiments/d1-experiments.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { experimentLedgerContract } from '../../contracts/experiments.ts';
import { webhookOutboxContract } from '../../contracts/webhook-outbox.ts';
import { createFakeExperimentLedger } from '../../fakes/fake-experiments.ts';
import { createFakeWebhookOutbox } from '../../fakes/fake-webhook-outbox.ts';
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
  return {
    registry: createD1Registry(db),
    ledger: createD1ExperimentLedger(db),
    async erase(id) {
      await db.prepare('DELETE FROM experiments WHERE id = ?').bind(id).run();
    },
  };
});

webhookOutboxContract('the fake', async () => createFakeWebhookOutbox());
webhookOutboxContract('D1', async () => {
  const db = await openRealDatabase(miniflare);
  await db
    .prepare(
      `INSERT INTO experiments (id, name, owner, version, status, seed, seeds, document, created_at, created_by)
       VALUES ('exp_1', 'a', 'me', 1, 'running', 's', '[]', '{}', 1, 'key_1')`,
    )
    .run();
  return createD1WebhookOutbox(db);
});
