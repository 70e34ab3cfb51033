/** The jobs of the cron trigger. */
import { syncStaleRights } from './access/repair-rights.ts';
import type { EvaluateDeps } from './experiments/life/life-deps.ts';
import type { Preferences } from './improvements/ports.ts';
import type { KeptPrompts } from './prompts/ports.ts';
import type { PageUploads } from './publications/d1-page-uploads.ts';
import type { Registry, RequestLife } from './registry/ports.ts';
import { type AdvanceDeps, advanceJobs } from './training/advance-jobs.ts';
import { type DeleteDeps, tendFiles } from './training/delete-rows.ts';
import type { TrafficLedger } from './traffic/ports.ts';
import type { Drops } from './kv-inbox/take-drops.ts';
import { type EraseDeps, workOffErasures } from './erasure/erase-steps.ts';
import { resealRows, type ScoreDeps } from './evaluations/score.ts';
import { evaluateAll } from './experiments/life/evaluate.ts';

import { collectSomeGarbage, type GarbageDeps } from './blobs/collect-garbage.ts';
import { SCHEDULED_DELETIONS } from './blobs/limits.ts';
import { FORGOTTEN_PER_RUN, STALE_POINTERS_PER_RUN } from './registry/limits.ts';
import { REMOVAL_GRACE_MS } from '../protocol/admin-api/names.ts';
import { syncStalePointers } from './registry/write-pointer.ts';
import { createPinSync } from './origins/pins.ts';
import { SCHEDULED_JOB_MS } from './limits.ts';
import { logLine, reasonOf } from './log.ts';
import { syncUnwrittenLimits, type TenantLimitsDeps } from './metering/key-limits.ts';
import type { OriginClient } from './origins/client.ts';
import { ORIGIN_HISTORY_KEPT_S, PINS_LOADED_MS } from './origins/limits.ts';
import type { OriginHistoryLedger, PinLedger } from './origins/ports.ts';
import { withTimeout } from './platform/store-calls.ts';
import { tellOfOrigins } from './webhooks/alerts.ts';
import type { WebhookLedger } from './webhooks/d1-webhooks.ts';
import { sendWebhooks, type WebhookDeps } from './webhooks/send-webhooks.ts';

export type Schedule = (keepAlive: RequestLife['keepAlive']) => Promise<void>;

type PointerDeps = Parameters<typeof syncStalePointers>[0];
type RightsDeps = Parameters<typeof syncStaleRights>[0];

/** Names that are not updated in KV, because their writer died before. */
async function writePointers(deps: PointerDeps): Promise<void> {
  await syncStalePointers(deps, { limit: STALE_POINTERS_PER_RUN, newest: false });
}

/** A fresh isolate's work along with its first request; failures are logged, and left to the schedule. */
export const catchUp = (deps: PointerDeps & RightsDeps): Promise<void> =>
  runJobs({ rights: () => syncStaleRights(deps), pointers: () => writePointers(deps) }).catch(
    () => undefined,
  );

type ScheduleDeps = TenantLimitsDeps &
  RightsDeps &
  EvaluateDeps &
  WebhookDeps &
  EraseDeps &
  GarbageDeps &
  OriginNoteDeps &
  DeleteDeps &
  AdvanceDeps &
  Pick<ScoreDeps, 'evaluations' | 'evaluationSealer'> & {
    registry: Registry;
    pins: PinLedger;
    traffic: Pick<TrafficLedger, 'tend'>;
    keptPrompts: Pick<KeptPrompts, 'tend'>;
    preferences: Pick<Preferences, 'tend'>;
    pageUploads: Pick<PageUploads, 'tend'>;
  };

/** @param drops null while the inbox is off. @returns one run of all jobs; it throws when one of them failed. */
export function createSchedule(deps: ScheduleDeps, drops: Drops | null): Schedule {
  const { pins, registry, now } = deps;
  // Read again each time: another isolate may have unpinned the last one, and an origin may have missed it.
  const pinSync = () => createPinSync({ pins, registry, origins: deps.origins.pins });
  return (keepAlive) =>
    runJobs(
      {
        // First: a revoked key must not be used for longer than necessary.
        rights: () => syncStaleRights(deps),
        // Nor a name that was erased or retired. A dropped file may take a minute to be tried.
        pointers: () => writePointers(deps),
        limits: () => syncUnwrittenLimits(deps),
        drops: async () => drops?.takeAll(keepAlive),
        experiments: () => evaluateAll(deps),
        // A restarted origin holds nothing.
        pins: () =>
          pinSync().sync({
            signal: new AbortController().signal,
            loading: AbortSignal.timeout(PINS_LOADED_MS),
            keepAlive,
          }),
        removed: () =>
          registry.forgetRemoved({ before: now() - REMOVAL_GRACE_MS, limit: FORGOTTEN_PER_RUN, at: now() }),
        erasures: () => workOffErasures(deps),
        origins: () => noteOrigins(deps),
        // What the jobs before have to tell goes out in the same run.
        webhooks: () => sendWebhooks(deps),
        traffic: () => deps.traffic.tend(now()),
        prompts: () => deps.keptPrompts.tend(now()),
        preferences: () => deps.preferences.tend(now()),
        uploads: () => deps.pageUploads.tend(now()),
        rows: () => tendFiles(deps),
        evaluations: () => resealRows(deps),
        jobs: () => advanceJobs(deps, keepAlive),
        garbage: () => collectSomeGarbage(deps, SCHEDULED_DELETIONS),
      },
      { ms: SCHEDULED_JOB_MS, keepAlive },
    );
}

/**
 * Runs the schedule's jobs one after the other; a failing one does not block the others.
 * @param most.ms after which a job goes on behind the next ones; it is kept alive. Absent: all are waited for.
 * @throws the first failure, when all have run: the platform then counts the invocation as failed.
 */
export async function runJobs(
  jobs: Record<string, () => Promise<unknown>>,
  most?: { ms: number; keepAlive: RequestLife['keepAlive'] },
): Promise<void> {
  const failures: unknown[] = [];
  const attempt = async (job: string, run: () => Promise<unknown>): Promise<void> => {
    try {
      await run();
    } catch (error) {
      failures.push(error);
      const reason = reasonOf(error);
      logLine('job_failed', { job, reason });
    }
  };
  for (const [job, run] of Object.entries(jobs)) {
    const work = attempt(job, run);
    await (most === undefined
      ? work
      : withTimeout(work, most.ms, () => {
          most.keepAlive(work);
          logLine('job_goes_on', { job, ms: most.ms }, 'warning');
        }));
  }
  if (failures.length > 0) throw failures[0];
}

interface OriginNoteDeps {
  origins: OriginClient;
  originHistory: OriginHistoryLedger;
  webhooks: WebhookLedger;
  now: () => number;
}

/** Records how busy each answering origin is, tells webhooks of those that do not answer, and deletes old records. */
async function noteOrigins(deps: OriginNoteDeps): Promise<void> {
  const at = 60 * Math.floor(deps.now() / 60_000);
  const asked = await deps.origins.measure();
  await tellOfOrigins(
    deps,
    asked.map(({ id, figures }) => ({ id, answers: figures !== null })),
  );
  const measured = asked.flatMap(({ id, figures }) => (figures === null ? [] : [{ id, figures }]));
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
