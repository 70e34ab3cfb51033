/** The edge's stores in D1: each room's tables with its own backend. */
import { createD1GrantLedger } from './access/d1-grants.ts';
import { createD1KeyLedger } from './access/d1-key-ledger.ts';
import { createD1StaleRights } from './access/d1-stale-rights.ts';
import { createD1Backup } from './backup/d1-backup.ts';
import { createD1BlobLedger, createD1Garbage } from './blobs/d1-blob-ledger.ts';
import { createD1Preferences } from './improvements/d1-preferences.ts';
import { createD1DropLedger } from './kv-inbox/d1-drop-ledger.ts';
import { createD1Erasures } from './erasure/d1-erasures.ts';
import { createD1Evaluations } from './evaluations/d1-evaluations.ts';
import { createD1ExperimentLedger } from './experiments/d1-experiments.ts';
import { createD1TenantLimits } from './metering/d1-tenant-limits.ts';
import { createD1Usage } from './metering/d1-usage.ts';
import { createD1FileNames, createD1OriginHistory, createD1Pins } from './origins/d1-origins.ts';
import { createD1PageUploads } from './publications/d1-page-uploads.ts';
import { createD1KeptPrompts } from './prompts/d1-kept-prompts.ts';
import { createD1Registry } from './registry/d1-registry.ts';
import { createD1RowAudit } from './registry/d1-row-audit.ts';
import { createD1RowFiles } from './training/d1-row-files.ts';
import { createD1TrainingJobs } from './training/d1-training-jobs.ts';
import { createD1Traffic } from './traffic/d1-traffic.ts';
import { createD1WebhookOutbox, createD1Webhooks } from './webhooks/d1-webhooks.ts';
import { USAGE_BATCH_MEMORY_MS } from './metering/limits.ts';
import type { Stores } from './parts.ts';
import type { SqlDatabase } from './platform/d1-database.ts';

/** @param usageDb what is counted lies in it; no statement and no transaction spans the two. Default: the same one. */
export const createD1Stores = (db: SqlDatabase, usageDb = db) =>
  ({
    registry: createD1Registry(db),
    blobLedger: createD1BlobLedger(db),
    garbage: createD1Garbage(db),
    rowAudit: createD1RowAudit(db),
    erasures: createD1Erasures(db),
    backups: createD1Backup(db, usageDb),
    keyLedger: createD1KeyLedger(db),
    grantLedger: createD1GrantLedger(db),
    staleRights: createD1StaleRights(db),
    tenantLimits: createD1TenantLimits(db),
    usage: createD1Usage(usageDb, USAGE_BATCH_MEMORY_MS),
    traffic: createD1Traffic(usageDb),
    keptPrompts: createD1KeptPrompts(db),
    preferences: createD1Preferences(db),
    pins: createD1Pins(db),
    originHistory: createD1OriginHistory(db),
    fileNames: createD1FileNames(db),
    dropLedger: createD1DropLedger(db),
    pageUploads: createD1PageUploads(db),
    rowFiles: createD1RowFiles(db),
    trainingJobs: createD1TrainingJobs(db),
    evaluations: createD1Evaluations(db),
    experimentLedger: createD1ExperimentLedger(db),
    outbox: createD1WebhookOutbox(db),
    webhooks: createD1Webhooks(db),
  }) satisfies Partial<Stores>;
