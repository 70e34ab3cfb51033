/** Numbers of counting requests, tokens and use, with unit and reason. */
import { REQUEST_BUDGET_MS } from '../limits.ts';

const SECOND = 1_000;

/** A running request that gives no sign of life for this long stops counting as concurrent. */
export const LEASE_MS = 60 * SECOND;
/** … and that sign is given so often: three can be lost. */
export const LEASE_RENEW_MS = 15 * SECOND;
/** A lease that ended by itself is still known for this long, so that tokens that are told late are counted, once. */
export const LEASE_KEPT_MS = REQUEST_BUDGET_MS;
/** A counter that does not answer in this time is treated as out of order: `on_outage` decides. */
export const QUOTA_TIMEOUT_MS = 2 * SECOND;
/** A key that was told it used too much is told so again for this long without asking its counter. */
export const REFUSAL_MEMORY_MS = 1 * SECOND;
/** A key whose counter is damaged need not ask again soon: its operator has to reset it. */
export const DAMAGED_QUOTA_RETRY_MS = 60 * SECOND;
/** Pages of a tenant's keys that one run of the schedule writes after a change: each key is a write and a read of 1,000. */
export const TENANT_LIMIT_PAGES = 8;
/** Limits of a tenant that others change at the same time are read and changed so often. */
export const LIMITS_TRIES = 4;
/** Usage is written this long after it was first noted, with all that came meanwhile. */
export const USAGE_FLUSH_MS = 2 * SECOND;
/** Rows of one write of usage: each is about 150 bytes. */
export const MAX_USAGE_ROWS = 500;
/** A batch of usage is tried so often, with a growing pause. */
export const USAGE_TRIES = 4;
/** Rows that wait for a database that does not answer; then the oldest are given up, and said so. */
export const MAX_UNSENT_USAGE_ROWS = 5_000;
/** Batches are known for this long; none is sent again later. */
export const USAGE_BATCH_MEMORY_MS = 86_400 * SECOND;
/** Rows in one answer of `GET /admin/usage`. */
export const MAX_USAGE_SUMS = 10_000;
