/** The steps of an erasure, a page each, and their execution. All of them may be repeated. */
import { z } from 'zod';
import { type EraseCounts, ERASE_SETTLE_MS, ERASE_STEPS } from '../../protocol/admin-api/erasures.ts';
import { MAX_DROPPED_AT_ONCE } from '../../protocol/origin-wire.ts';
import type { RightsWriter } from '../access/ports.ts';
import { deleteFile } from '../blobs/collect-garbage.ts';
import type { BlobStore } from '../blobs/ports.ts';
import type { GarbageLedger } from '../blobs/d1-blob-ledger.ts';
import type { KvInbox } from '../kv-inbox/take-drops.ts';
import type { PairTallies } from '../experiments/pairs/ports.ts';
import type { ExperimentIndex, ExperimentTallies } from '../experiments/ports.ts';
import { GATHERER_SHARDS } from '../gathering/limits.ts';
import type { Gatherers } from '../gathering/ports.ts';
import type { Quotas, UsageLedger } from '../metering/ports.ts';
import type { PointerWriter, Registry } from '../registry/ports.ts';
import { syncStalePointers } from '../registry/write-pointer.ts';
import { KEPT_S } from '../traffic/limits.ts';
import type { TrafficLedger } from '../traffic/ports.ts';
import { countUsage } from '../training/count-usage.ts';
import type { RowFiles, RowParts, TrainingJobs } from '../training/ports.ts';
import {
  ERASE_CALLS,
  ERASED_AT_ONCE,
  ERASED_EXPERIMENTS,
  ERASED_FILES,
  ERASED_HOLDERS,
  ERASED_KEYS,
  ERASED_NAMES,
  ERASED_POINTERS,
  ERASED_ROWS,
  ERASED_TRACES,
  ERASED_ROW_FILES,
  ERASED_JOBS,
  ERASED_VALUES,
  TRAFFIC_WINDOW_STEPS,
  ABANDONED_MS,
  SCHEDULED_CALLS,
  WAITING_MS,
} from './limits.ts';
import type { ErasureLedger } from './d1-erasures.ts';
import {
  type Erasure,
  type OriginDrops,
  type WorkStep,
  ERASURE_STEPS,
  type ErasureStep,
  untilOf,
} from './ports.ts';

export interface EraseDeps {
  erasures: ErasureLedger;
  registry: Registry;
  pointers: PointerWriter;
  rights: RightsWriter;
  experimentIndex: ExperimentIndex;
  tallies: ExperimentTallies;
  pairTallies: PairTallies;
  blobs: BlobStore;
  garbage: GarbageLedger;
  /** null = this edge has no counters. */
  quotas: Quotas | null;
  kvInbox: KvInbox;
  originDrops: OriginDrops;
  rowFiles: Pick<RowFiles, 'erase'>;
  rowParts: Pick<RowParts, 'delete'>;
  trainingJobs: Pick<TrainingJobs, 'erase' | 'uncounted' | 'counted'>;
  usage: Pick<UsageLedger, 'add' | 'rows' | 'forget'>;
  traffic: Pick<TrafficLedger, 'forget'>;
  gatherers: Pick<Gatherers, 'writeOut' | 'forget'>;
  /** Unix ms. */
  now: () => number;
}

interface Unreached {
  origin: string;
  files: number;
  reason: string;
}

/** The result of a page. */
interface PageDone {
  /** Where the step continues; null at its end. */
  place: string | null;
  /** Approximate number of external calls: a request has 1,000 of them. */
  calls: number;
  erased?: Partial<EraseCounts>;
  kept?: { files: number; bytes: number };
  unreached?: Unreached[];
  /** The rest is being deleted by another. */
  waits?: boolean;
}

/** @throws the first failure, when all started calls have ended. */
async function each<T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < items.length; at += ERASED_AT_ONCE) {
    const settled = await Promise.allSettled(items.slice(at, at + ERASED_AT_ONCE).map(work));
    for (const one of settled) if (one.status === 'rejected') throw one.reason;
  }
}

type Step = (deps: EraseDeps, erasure: Erasure) => Promise<PageDone>;

/** Revoked already: KV keeps their marks, which contain only the hash of a key. */
const keys: Step = async ({ erasures, rights }, erasure) => {
  if (erasure.kind !== 'tenant') return { place: null, calls: 0 };
  const page = await erasures.keys(erasure, erasure.place, ERASED_KEYS);
  await each(page, async ({ kind, hash }) => {
    if (kind === 'api') await rights.syncKey(hash);
  });
  return { place: page.length < ERASED_KEYS ? null : (page.at(-1)?.id ?? null), calls: page.length + 1 };
};

/** A step that fails begins again, so the rows stay until nothing of their experiments is left elsewhere. */
const experiments: Step = async ({ erasures, experimentIndex, tallies, pairTallies, pointers }, erasure) => {
  const page = await erasures.experiments(erasure, ERASED_EXPERIMENTS);
  const ids = page.map(({ id }) => id);
  await erasures.withdrawExperiments(ids);
  // The manifest of a name that stays no longer says that it is tested. What was being written when the erasure began
  // is in KV before this, and nothing writes the experiments after it.
  await each([...new Set(page.map(({ name }) => name))], (name) => pointers.sync(name));
  await each(ids, async (id) => {
    await experimentIndex.remove(id);
    await tallies.erase(id);
    await pairTallies.erase(id);
  });
  await erasures.forgetExperiments(erasure, ids);
  const done = page.length < ERASED_EXPERIMENTS;
  return { place: done ? null : 'more', calls: page.length * 11 + 3, erased: { experiments: page.length } };
};

const names: Step = async ({ erasures, pointers, kvInbox, now }, erasure) => {
  const page = await erasures.names(erasure, ERASED_NAMES);
  await each(
    page.filter(({ version }) => version === 0),
    async ({ name }) => {
      await pointers.sync(name, { erased: true });
      await kvInbox.remove(name);
      await kvInbox.clearError(name);
    },
  );
  const erased = page.length === 0 ? {} : await erasures.forgetNames(erasure, page, now());
  return { place: page.length < ERASED_NAMES ? null : 'more', calls: page.length * 3 + 2, erased };
};

/** What others have built with it: nothing of it is left in KV. */
const others: Step = async ({ erasures, experimentIndex, pointers, registry }, erasure) => {
  const page = await erasures.others(erasure, erasure.place, ERASED_EXPERIMENTS);
  await each(page.experiments, async ({ id, name }) => {
    await pointers.sync(name);
    await experimentIndex.remove(id);
  });
  await erasures.endAliases(page.aliases);
  await each(page.aliases, (name) => pointers.sync(name, { mark: true }));
  const stale = await syncStalePointers({ registry, pointers }, { limit: ERASED_POINTERS, newest: true });
  const full = page.experiments.length === ERASED_EXPERIMENTS || page.aliases.length === ERASED_EXPERIMENTS;
  return {
    place: full ? (page.experiments.at(-1)?.id ?? erasure.place) || '-' : null,
    calls: page.experiments.length * 2 + page.aliases.length + stale + 3,
  };
};

const files: Step = async ({ erasures, blobs, garbage, originDrops, now }, erasure) => {
  const page = await erasures.files(erasure, ERASED_FILES);
  const budget = { left: ERASED_VALUES };
  const done = { files: 0, bytes: 0 };
  const kept = { files: 0, bytes: 0 };
  let [looked, left] = [0, 0];
  for (const digest of page) {
    if (budget.left <= 0) break;
    const claim = now();
    const released = await erasures.releaseFile(erasure, digest, claim);
    looked += 1;
    if (released.is === 'kept') {
      kept.files += 1;
      await erasures.fileStays(erasure, digest);
      continue;
    }
    // The rest of a large file is left for the next page.
    const gone =
      released.is === 'released'
        ? await deleteFile({ garbage, blobs, now }, { digest, claim }, budget)
        : released.is === 'gone';
    if (!gone) {
      left += 1;
      continue;
    }
    await erasures.fileLeftTo(erasure, digest, originDrops.ids);
    done.files += 1;
    done.bytes += released.is === 'released' ? released.bytes : 0;
  }
  const over = page.length < ERASED_FILES && looked === page.length && left === 0;
  const calls = looked * 5 + ERASED_VALUES - budget.left;
  const waits = left > 0 && left === looked && budget.left > 0;
  return { place: over ? null : 'more', calls, erased: done, kept, waits };
};

/**
 * Jobs of the tenant, and of anybody on the names; their origins delete them, however long that takes. Rows of files go a
 * minute later, in case an upload under way stores one more part.
 */
const training: Step = async ({ rowFiles, rowParts, trainingJobs, now }, erasure) => {
  const tenant = erasure.kind === 'tenant' ? erasure.target : null;
  const jobs = await trainingJobs.erase({ erasure: erasure.id, tenant, limit: ERASED_JOBS });
  if (jobs === ERASED_JOBS) return { place: 'more', calls: 2, erased: { jobs } };
  if (tenant === null) return { place: null, calls: 2, erased: { jobs } };
  const page = await rowFiles.erase({ tenant, limit: ERASED_ROW_FILES, at: now() });
  await each(page, ({ id, parts }) => rowParts.delete(id, parts));
  return {
    place: page.length < ERASED_ROW_FILES ? null : 'more',
    calls: page.reduce((calls, { parts }) => calls + parts, 3),
    erased: { row_files: page.length, jobs },
  };
};

/**
 * Position: the last digest, and the origins that did not answer, which are not waited for again.
 * @param again every origin drops every file, also if it has already; else what is left.
 */
const dropAt =
  ({ again }: { again: boolean }): Step =>
  async ({ erasures, originDrops }, erasure) => {
    const [after = '', ...away] = erasure.place.split(' ');
    const page = await erasures.atOrigins(erasure, { after, limit: MAX_DROPPED_AT_ONCE, all: again });
    const unused = new Set(await erasures.unused(page.map(({ digest }) => digest)));
    const askedOf = (ids: readonly string[]): string[] => [
      ...new Set(again ? [...ids, ...originDrops.ids] : ids),
    ];
    const left = new Map(
      page.map(({ digest, origins: ids }) => [digest, unused.has(digest) ? askedOf(ids) : []]),
    );
    const asked = [...new Set([...left.values()].flat())];
    const unreached: Unreached[] = [];
    await each(asked, async (origin) => {
      const digests = [...left].filter(([, ids]) => ids.includes(origin)).map(([digest]) => digest);
      const known = originDrops.ids.includes(origin);
      const reason = !known
        ? 'is no longer in ORIGINS; delete its adapter folder by hand'
        : away.includes(origin)
          ? 'did not answer'
          : await originDrops.drop(origin, digests);
      if (reason !== null) unreached.push({ origin, files: digests.length, reason });
      if (reason !== null && known) return void away.push(origin);
      for (const digest of digests) left.set(digest, left.get(digest)?.filter((id) => id !== origin) ?? []);
    });
    const changed = page.filter(({ digest, origins: ids }) => left.get(digest)?.join() !== ids.join());
    await each(changed, ({ digest }) => erasures.fileLeftTo(erasure, digest, left.get(digest) ?? []));
    const last = page.length < MAX_DROPPED_AT_ONCE ? undefined : page.at(-1);
    return {
      place: last === undefined ? null : [last.digest, ...new Set(away)].join(' '),
      calls: asked.length + changed.length + 2,
      unreached,
    };
  };

const origins = dropAt({ again: false });
/** A request under way may have sent a file to an origin that had dropped it. */
const lateOrigins = dropAt({ again: true });

/** Steps that one statement looks up, of hours and days. */
function windowsOf(now: number): { step: number; from: number; to: number }[] {
  return ([3600, 86400] as const).flatMap((step) => {
    const wide = step * TRAFFIC_WINDOW_STEPS;
    const end = now / 1_000 + step;
    // A day more: the schedule may be late in deleting expired data.
    const begin = now / 1_000 - KEPT_S[step] - 86_400;
    return Array.from({ length: Math.ceil((end - begin) / wide) }, (_, i) => ({
      ...{ step, from: Math.floor(begin + i * wide), to: Math.ceil(begin + (i + 1) * wide) },
    }));
  });
}

/**
 * The first of the steps that erase what was counted, for which gatherers give D1 what they have, and forget it: minutes,
 * and requests. Then D1 forgets hours and days, so that none of them is written anew of what is erased.
 */
const traffic: Step = async ({ erasures, gatherers, traffic: ledger, now }, erasure) => {
  const tenant = erasure.kind === 'tenant' ? erasure.owner : null;
  if (!erasure.place.startsWith(WINDOW)) {
    if (erasure.place === '') await gatherers.writeOut();
    const names = await erasures.wholeNames(erasure, erasure.place, ERASED_TRACES);
    const isAny = tenant !== null || names.length > 0;
    const erased = isAny ? await gatherers.forget({ tenant, names, until: untilOf(erasure) }) : {};
    return { place: lastOfFull(names) ?? `${WINDOW}0`, calls: 2 * GATHERER_SHARDS + 1, erased };
  }
  const windows = windowsOf(now());
  const [at = '', after = ''] = erasure.place.slice(WINDOW.length).split(' ');
  const window = windows[Number(at)];
  if (window === undefined) return { place: null, calls: 0 };
  const names = await erasures.wholeNames(erasure, after, ERASED_TRACES);
  const to = Math.min(window.to, untilOf(erasure) / 1_000);
  const went = await ledger.forget({ ...window, tenant, names, to });
  const last = lastOfFull(names);
  const next = Number(at) + 1 < windows.length ? `${WINDOW}${Number(at) + 1}` : null;
  return {
    place: last === null ? next : `${WINDOW}${at} ${last}`,
    calls: 3,
    erased: { traffic: went },
  };
};
/** No name contains a blank. */
const WINDOW = 'window ';

/** The name behind which the next page begins, after a page of `ERASED_TRACES` names; null = that was the last. */
const lastOfFull = (names: readonly string[]): string | null =>
  names.length < ERASED_TRACES ? null : (names.at(-1) ?? null);

const requests: Step = async ({ erasures }, erasure) => {
  await erasures.forgetPrompts(erasure);
  return { place: null, calls: 2 };
};

/**
 * Of the owner only: others' use is on their bills. What ended jobs have used is counted first, under the ids that keep it
 * from being counted again. Position: the last name of the page before.
 */
const usage: Step = async (deps, erasure) => {
  if (!erasure.usage) return { place: null, calls: 0 };
  const { kind, owner: tenant, place } = erasure;
  const jobs = await countUsage(deps, tenant);
  const calls = 2 * jobs.counted + 4;
  if (!jobs.over) return { place, calls };
  const page = kind === 'tenant' ? [] : await deps.erasures.wholeNames(erasure, place, ERASED_TRACES);
  const names = kind === 'tenant' ? null : page;
  const until = Math.floor(untilOf(erasure) / HOUR_MS);
  const went = await deps.usage.forget({ tenant, names, until, limit: ERASED_ROWS });
  return { place: went < ERASED_ROWS ? lastOfFull(page) : place, calls, erased: { usage: went } };
};
const HOUR_MS = 3_600_000;

/** Rows of usage that an erasure is to delete. */
export async function usageOf(
  { erasures, usage: ledger }: Pick<EraseDeps, 'erasures' | 'usage'>,
  { id, kind, owner: tenant }: Pick<Erasure, 'id' | 'kind' | 'owner'>,
): Promise<number> {
  if (kind === 'tenant') return ledger.rows({ tenant, names: null });
  let rows = 0;
  for (let after: string | null = ''; after !== null;) {
    const names: string[] = await erasures.wholeNames({ id }, after, ERASED_TRACES);
    rows += await ledger.rows({ tenant, names });
    after = lastOfFull(names);
  }
  return rows;
}

/**
 * Position: the tenants whose grants are next, which would be unknown once their rows are deleted before KV is
 * updated.
 */
const rest: Step = async ({ erasures, rights, quotas }, erasure) => {
  const history = await erasures.forgetHistory(erasure, ERASED_ROWS);
  if (history === ERASED_ROWS) return { place: erasure.place || 'more', calls: 1 };
  if (erasure.kind !== 'tenant') return { place: null, calls: 1 };
  if (erasure.place.startsWith(HOLDERS)) {
    const tenants = z.array(z.string()).parse(JSON.parse(erasure.place.slice(HOLDERS.length)));
    const grants = await erasures.forgetGrantsFrom(erasure, tenants);
    await each(tenants, (tenant) => rights.syncGrants(tenant));
    return { place: 'more', calls: tenants.length + 3, erased: { grants } };
  }
  const holders = await erasures.holders(erasure, ERASED_HOLDERS);
  if (holders.length > 0) return { place: HOLDERS + JSON.stringify(holders), calls: 2 };
  const unwritten = await erasures.unwrittenKeys(erasure, ERASED_KEYS);
  await each(unwritten, ({ hash }) => rights.syncKey(hash));
  const written = unwritten.map(({ change }) => change);
  const { left, erased, counters } = await erasures.forgetTenant(erasure, written);
  await rights.syncGrants(erasure.target);
  await quotas?.forget(erasure.target, { but: counters });
  return { place: left ? 'more' : null, calls: unwritten.length + 6, erased };
};
const HOLDERS = 'holders ';

const STEPS: Readonly<Record<WorkStep, Step>> = {
  ...{ keys, experiments, names, others, files, training, origins, traffic, requests, usage, rest },
  ...{ 'late-origins': lateOrigins, 'late-traffic': traffic, 'late-requests': requests, 'late-usage': usage },
};

const LATE: readonly WorkStep[] = ['late-origins', 'late-traffic', 'late-requests', 'late-usage'];

export const NOTHING: EraseCounts = {
  ...{ names: 0, versions: 0, aliases: 0, pins: 0, experiments: 0, keys: 0, grants: 0, rooms: 0 },
  ...{ files: 0, bytes: 0, row_files: 0, jobs: 0, evaluations: 0, traffic: 0, requests: 0, usage: 0 },
};

export const sumCounts = (a: EraseCounts, b: Partial<EraseCounts>): EraseCounts => {
  const sum = { ...a };
  for (const [what, count] of Object.entries(b)) sum[what as keyof EraseCounts] += count;
  return sum;
};

const isWork = (step: ErasureStep): step is WorkStep => step in STEPS;

export interface Worked {
  /** Its current state. */
  erasure: Erasure;
  erased: EraseCounts;
  kept: { files: number; bytes: number };
  unreached: Unreached[];
  /** Nothing could be done, because somebody else is deleting the files. */
  waits: boolean;
}

/**
 * Pages, until the erasure waits for something, or this many calls were made. @throws StoreUnavailable; completed work
 * stays.
 */
export async function workOff(
  deps: EraseDeps,
  begun: Erasure,
  options: { calls?: number; at?: number } = {},
): Promise<Worked> {
  const worked = nothingOf(begun);
  const { calls: most = ERASE_CALLS } = options;
  for (let calls = 0; calls < most;) {
    const { step } = worked.erasure;
    if (!isWork(step)) break;
    const done = await STEPS[step](deps, worked.erasure);
    calls += done.calls + 1;
    add(worked, done);
    worked.waits = done.waits === true && worked.erasure === begun;
    const at = options.at ?? deps.now();
    const next = nextOf(step);
    const to = done.place === null ? { step: next, place: '', at } : { step, place: done.place, at };
    if (to.step === 'settling') to.at = deps.now();
    const moved = await deps.erasures.move(worked.erasure.id, to);
    // Of one that another request has taken over, the rest is that one's.
    const other = moved ? null : await deps.erasures.begunOf(worked.erasure);
    worked.erasure = other ?? {
      ...worked.erasure,
      step: to.step,
      place: to.place,
      touchedAt: to.at,
      endedAt: to.step === 'settling' ? to.at : worked.erasure.endedAt,
    };
    if (done.waits === true) break;
  }
  return worked;
}

const nothingOf = (erasure: Erasure): Worked => ({
  ...{ erasure, erased: NOTHING, kept: { files: 0, bytes: 0 }, unreached: [], waits: false },
});

const nextOf = (step: ErasureStep): ErasureStep =>
  ERASURE_STEPS[ERASURE_STEPS.indexOf(step) + 1] ?? 'waiting';

function add(worked: Worked, { erased = {}, kept, unreached = [] }: PageDone): void {
  worked.erased = sumCounts(worked.erased, erased);
  worked.kept.files += kept?.files ?? 0;
  worked.kept.bytes += kept?.bytes ?? 0;
  for (const one of unreached) {
    const known = worked.unreached.find(({ origin }) => origin === one.origin);
    if (known === undefined) worked.unreached.push({ ...one });
    else known.files += one.files;
  }
}

/** Asks the origins that have not dropped everything once more. @returns those that still have not. */
async function askOriginsAgain(deps: EraseDeps, erasure: Erasure): Promise<Unreached[]> {
  const asked = nothingOf(erasure);
  for (let place: string | null = ''; place !== null;) {
    const done: PageDone = await origins(deps, { ...erasure, place });
    add(asked, done);
    ({ place } = done);
  }
  return asked.unreached;
}

/**
 * The schedule's part: abandoned erasures, records of requests in progress, and origins that did not answer.
 * @throws StoreUnavailable
 */
export async function workOffErasures(deps: EraseDeps): Promise<void> {
  const { erasures, now } = deps;
  const left = await erasures.next({ steps: ['planned'], touchedBefore: now() - ABANDONED_MS });
  if (left !== null) await erasures.discard(left.id);

  const settled = await erasures.next({ steps: ['settling'], touchedBefore: now() - ERASE_SETTLE_MS });
  if (settled !== null) await erasures.move(settled.id, { step: 'late-origins', place: '', at: 0 });
  const next = await erasures.next({
    steps: [...ERASE_STEPS, ...LATE],
    touchedBefore: now() - ABANDONED_MS,
  });
  // As if it had been abandoned before: the next run continues.
  if (next !== null) await workOff(deps, next, { calls: SCHEDULED_CALLS, at: 0 });

  const waiting = await erasures.next({ steps: ['waiting'], touchedBefore: now() - WAITING_MS });
  if (waiting === null) return;
  const unreached = await askOriginsAgain(deps, waiting);
  if (unreached.length === 0) await erasures.end(waiting.id);
  else await erasures.move(waiting.id, { step: 'waiting', place: '', at: now() });
}
