/** What the cron trigger starts. */
import type { Services } from './app.ts';
import type { Drops } from './drops/parts.ts';
import { workOffErasures } from './erasure/erase-steps.ts';
import { evaluateAll } from './experiments/life/evaluate.ts';
import { sendWebhooks } from './experiments/webhooks.ts';
import { collectSomeGarbage } from './blobs/collect-garbage.ts';
import type { RequestLife } from './registry/registry-deps.ts';
import { SCHEDULED_DELETIONS } from './blobs/limits.ts';
import { FORGOTTEN_PER_RUN, STALE_POINTERS_PER_RUN } from './registry/limits.ts';
import { REMOVAL_GRACE_MS } from '../protocol/index.ts';
import { syncStalePointers } from './registry/write-pointer.ts';
import { createPinSync } from './origins/pins.ts';
import { logLine, reasonOf } from './log.ts';
import { syncUnwrittenLimits } from './metering/sync-tenant-limits.ts';
import type { OriginClient } from './origins/client.ts';
import { ORIGIN_HISTORY_KEPT_S } from './origins/limits.ts';
import type { OriginHistoryLedger } from './origins/ports.ts';

export type Schedule = (keepAlive: RequestLife['keepAlive']) => Promise<void>;

/** Names that KV was not told of, because whoever changed them died before. */
const writePointers = (services: Pick<Services, 'intake'>): Promise<void> =>
  syncStalePointers(services.intake, { limit: STALE_POINTERS_PER_RUN, newest: false });

/** What a fresh isolate does beside its first request; what fails is logged, and the schedule's. */
export const catchUp = (services: Pick<Services, 'intake'>): Promise<void> =>
  runJobs({ pointers: () => writePointers(services) }).catch(() => undefined);

/** @param drops null while they are off. @returns one run of all jobs; it throws when one of them failed. */
export function createSchedule(
  services: Pick<
    Services,
    | 'pins'
    | 'intake'
    | 'origins'
    | 'experimentLedger'
    | 'tallies'
    | 'pairTallies'
    | 'garbage'
    | 'tenantLimits'
    | 'traffic'
    | 'keptPrompts'
    | 'originHistory'
    | 'keyLedger'
    | 'rights'
    | 'outbox'
    | 'webhookSigner'
    | 'callOut'
    | 'loopbackCallbacks'
    | 'erasures'
    | 'dropBox'
    | 'experimentIndex'
    | 'quotas'
  >,
  drops: Drops | null,
): Schedule {
  const { pins, intake, origins } = services;
  // Afresh each time: another isolate may have unpinned the last one, and an origin did not hear of it.
  const pinSync = () => createPinSync({ pins, registry: intake.registry, origins: origins.pins });
  return (keepAlive) =>
    runJobs({
      limits: () => syncUnwrittenLimits(services),
      drops: async () => drops?.takeAll(keepAlive),
      pointers: () => writePointers(services),
      experiments: () => evaluateAll({ ...services, ...intake }),
      webhooks: () => sendWebhooks({ ...services, now: intake.now }),
      // An origin that was started again holds nothing.
      pins: () => pinSync().sync({ signal: new AbortController().signal, keepAlive }),
      removed: () =>
        intake.registry.forgetRemoved({ before: intake.now() - REMOVAL_GRACE_MS, limit: FORGOTTEN_PER_RUN }),
      erasures: () => workOffErasures({ ...services, ...intake, originDrops: origins.drops }),
      origins: () => noteOrigins({ ...services, now: intake.now }),
      traffic: () => services.traffic.tend(intake.now()),
      prompts: () => services.keptPrompts.tend(intake.now()),
      garbage: () => collectSomeGarbage({ ...services, ...intake }, SCHEDULED_DELETIONS),
    });
}

/**
 * Runs the schedule's jobs one after the other; one that fails keeps none of the others from its turn.
 * @throws the first failure, when all have run: the platform then counts the invocation as failed.
 */
export async function runJobs(jobs: Record<string, () => Promise<unknown>>): Promise<void> {
  const failures: unknown[] = [];
  for (const [job, run] of Object.entries(jobs)) {
    try {
      await run();
    } catch (error) {
      failures.push(error);
      const reason = reasonOf(error);
      logLine('job_failed', { job, reason });
    }
  }
  if (failures.length > 0) throw failures[0];
}

/** Notes how busy each origin is that answers, and forgets what is too old. */
async function noteOrigins(deps: {
  origins: OriginClient;
  originHistory: OriginHistoryLedger;
  now: () => number;
}): Promise<void> {
  const at = 60 * Math.floor(deps.now() / 60_000);
  const measured = await deps.origins.measure();
  if (measured.length > 0)
    await deps.originHistory.note(
      measured.map(({ id, figures }) => ({
        ...{ origin: id, at, rowsRunning: figures.rows_running, slots: figures.slots },
        requestsWaiting: figures.requests_waiting + figures.requests_loading,
        adaptersResident: figures.adapters_resident,
        adapterBytes: figures.adapter_bytes,
        memoryBytes: figures.memory_bytes,
      })),
    );
  await deps.originHistory.forget(at - ORIGIN_HISTORY_KEPT_S);
}
