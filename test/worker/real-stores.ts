import { createD1GrantLedger } from '../../worker/access/d1-grants.ts';
import { createD1KeyLedger } from '../../worker/access/d1-key-ledger.ts';
import { createD1Backup } from '../../worker/backup/d1-backup.ts';
import { createD1BlobLedger } from '../../worker/blobs/d1-blob-ledger.ts';
import { createD1Garbage } from '../../worker/blobs/d1-garbage.ts';
import { createD1DropLedger } from '../../worker/drops/d1-drop-ledger.ts';
import { createD1Erasures } from '../../worker/erasure/d1-erasures.ts';
import { createD1ExperimentLedger } from '../../worker/experiments/d1-experiments.ts';
import { createD1WebhookOutbox } from '../../worker/experiments/d1-webhook-outbox.ts';
import { createD1TenantLimits } from '../../worker/metering/d1-tenant-limits.ts';
import { createD1FileNames, createD1OriginHistory, createD1Pins } from '../../worker/origins/d1-origins.ts';
import type { Stores } from '../../worker/parts.ts';
import type { SqlDatabase } from '../../worker/platform/d1-database.ts';
import { createD1KeptPrompts } from '../../worker/prompts/d1-kept-prompts.ts';
import { createD1Registry } from '../../worker/registry/d1-registry.ts';
import { createD1RowAudit } from '../../worker/registry/d1-row-audit.ts';
import { createD1Traffic } from '../../worker/traffic/d1-traffic.ts';

/** What the edge keeps in D1, as `worker/index.ts` has it: for what is decided between the rooms' tables. */
export function storesOfDatabase(db: SqlDatabase) {
  const traffic = createD1Traffic(db);
  return {
    registry: createD1Registry(db),
    blobLedger: createD1BlobLedger(db),
    garbage: createD1Garbage(db),
    rowAudit: createD1RowAudit(db),
    erasures: createD1Erasures(db),
    backups: createD1Backup(db),
    keyLedger: createD1KeyLedger(db),
    grantLedger: createD1GrantLedger(db),
    tenantLimits: createD1TenantLimits(db),
    ...{ traffic, trafficCollector: traffic },
    keptPrompts: createD1KeptPrompts(db),
    pins: createD1Pins(db),
    originHistory: createD1OriginHistory(db),
    fileNames: createD1FileNames(db),
    dropLedger: createD1DropLedger(db),
    experimentLedger: createD1ExperimentLedger(db),
    outbox: createD1WebhookOutbox(db),
  } satisfies Partial<Stores>;
}
