/** How an erasure goes from page to page, for whoever asked for it and for the schedule. */
import { ERASE_SETTLE_MS, ERASE_STEPS, type EraseCounts } from '../../protocol/index.ts';
import { origins, STEPS, type EraseDeps, type PageDone, type Unreached } from './erase-steps.ts';
import { ABANDONED_MS, SCHEDULED_PAGES, WAITING_MS } from './limits.ts';
import { ERASURE_STEPS, type Erasure, type ErasureStep, type WorkStep } from './ports.ts';

/** Calls of what is outside after which a request ends: the page that passes them may take some hundreds more. */
const CALLS_OF_REQUEST = 300;
const LATE: readonly WorkStep[] = ['late-traffic', 'late-requests', 'late-usage'];

export const NOTHING: EraseCounts = {
  ...{ names: 0, versions: 0, aliases: 0, pins: 0, experiments: 0, keys: 0, grants: 0, rooms: 0 },
  ...{ files: 0, bytes: 0, traffic: 0, requests: 0, usage: 0 },
};

export const sumCounts = (a: EraseCounts, b: Partial<EraseCounts>): EraseCounts => {
  const sum = { ...a };
  for (const [what, count] of Object.entries(b)) sum[what as keyof EraseCounts] += count;
  return sum;
};

const isWork = (step: ErasureStep): step is WorkStep => step in STEPS;

export interface Worked {
  /** As it is now. */
  erasure: Erasure;
  erased: EraseCounts;
  kept: { files: number; bytes: number };
  unreached: Unreached[];
}

/** Some pages, until the erasure waits for something. @throws StoreUnavailable; what was done stays done. */
export async function workOff(
  deps: EraseDeps,
  begun: Erasure,
  options: { pages?: number; at?: number } = {},
): Promise<Worked> {
  const worked: Worked = { erasure: begun, erased: NOTHING, kept: { files: 0, bytes: 0 }, unreached: [] };
  for (let calls = 0, pages = options.pages ?? Infinity; calls < CALLS_OF_REQUEST && pages > 0; pages -= 1) {
    const { step } = worked.erasure;
    if (!isWork(step)) break;
    const done = await STEPS[step](deps, worked.erasure);
    calls += done.calls + 1;
    add(worked, done);
    const at = options.at ?? deps.now();
    const next = nextOf(step);
    const to = done.place === null ? { step: next, place: '', at } : { step, place: done.place, at };
    if (to.step === 'settling') to.at = deps.now();
    await deps.erasures.move(begun.id, to);
    worked.erasure = { ...worked.erasure, step: to.step, place: to.place, touchedAt: to.at };
  }
  return worked;
}

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
export async function askOriginsAgain(deps: EraseDeps, erasure: Erasure): Promise<Unreached[]> {
  const asked: Worked = { erasure, erased: NOTHING, kept: { files: 0, bytes: 0 }, unreached: [] };
  for (let place: string | null = ''; place !== null;) {
    const done: PageDone = await origins(deps, { ...erasure, place });
    add(asked, done);
    ({ place } = done);
  }
  return asked.unreached;
}

/**
 * The schedule's part: what nobody goes on with, what was noted of requests that were under way, and origins that did
 * not answer. @throws StoreUnavailable
 */
export async function workOffErasures(deps: EraseDeps): Promise<void> {
  const { erasures, now } = deps;
  const left = await erasures.next({ steps: ['planned'], touchedBefore: now() - ABANDONED_MS });
  if (left !== null) await erasures.discard(left.id);

  const settled = await erasures.next({ steps: ['settling'], touchedBefore: now() - ERASE_SETTLE_MS });
  if (settled !== null) await erasures.move(settled.id, { step: 'late-traffic', place: '', at: 0 });
  const next = await erasures.next({
    steps: [...ERASE_STEPS, ...LATE],
    touchedBefore: now() - ABANDONED_MS,
  });
  // As if it had been left alone before: the next run goes on.
  if (next !== null) await workOff(deps, next, { pages: SCHEDULED_PAGES, at: 0 });

  const waiting = await erasures.next({ steps: ['waiting'], touchedBefore: now() - WAITING_MS });
  if (waiting === null) return;
  const unreached = await askOriginsAgain(deps, waiting);
  if (unreached.length === 0) await erasures.end(waiting.id);
  else await erasures.move(waiting.id, { step: 'waiting', place: '', at: now() });
}
