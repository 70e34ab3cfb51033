import { beforeEach, expect, it, vi } from 'vitest';
import { evaluateAll } from '../../../../worker/experiments/life/evaluate.ts';
import { createD1ExperimentLedger } from '../../../../worker/experiments/d1-experiments.ts';
import { createD1WebhookOutbox } from '../../../../worker/webhooks/d1-webhooks.ts';
import { createD1Registry } from '../../../../worker/registry/d1-registry.ts';
import { EXPERIMENTS_PER_RUN, UNTOLD_EXPERIMENTS_PER_RUN } from '../../../../worker/experiments/limits.ts';
import { TALLY_SHARDS } from '../../../../worker/experiments/tally-object.ts';
import { createFakePairs } from '../../../fakes/fake-pairs.ts';
import { StoreUnavailable } from '../../../../worker/platform/ports.ts';
import { experimentRow } from '../../../contracts/sample-rows.ts';
import { versionRow } from '../../../contracts/sample-rows.ts';
import { openDatabase } from '../../platform/database.ts';

/** Of Workers on the paid plan, an invocation (developers.cloudflare.com/workers/platform/limits). */
const MAX_SUBREQUESTS = 1_000;
/** A look is one batch; what follows from it at most three more of D1 and one of the pointer writer. */
const CALLS_OF_A_LOOK = 5;

beforeEach(() => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
});

it('one run leaves the other jobs a third of what an invocation may ask', () => {
  const calls = EXPERIMENTS_PER_RUN * (TALLY_SHARDS + CALLS_OF_A_LOOK) + 2 * UNTOLD_EXPERIMENTS_PER_RUN;
  expect(calls).toBeLessThanOrEqual((MAX_SUBREQUESTS * 3) / 4);
});

it('more live experiments than a run can look at all have their turn, also when each look fails', async () => {
  const db = await openDatabase();
  const registry = createD1Registry(db);
  const ledger = createD1ExperimentLedger(db);
  const publish = async (name: string, version: number) =>
    registry.publish({
      row: versionRow(name, version),
      stage: false,
      before: await registry.name(name),
      why: null,
    });
  for (let version = 1; version <= 4; version += 1) await publish('support/intent', version);
  const count = 2 * EXPERIMENTS_PER_RUN + 30;
  for (let i = 0; i < count; i += 1) {
    await publish(`n${i}`, 1);
    const row = experimentRow('a', { name: `n${i}`, status: 'running' });
    const made = { ...row, id: `exp_${String(i).padStart(16, '0')}`, startedAt: 1 };
    expect(
      await ledger.create({ row: made, note: { actor: 'k', at: 1, action: 'experiment_create', why: null } }),
    ).toMatchObject({ ok: true });
    await ledger.written({ id: made.id, version: made.document.version });
  }
  let at = 1_000;
  const looks = new Map<string, number>();
  const run = async () => {
    at += 60_000;
    let looked = 0;
    const deps = {
      experimentLedger: ledger,
      pointers: { sync: () => Promise.resolve() },
      now: () => at,
      outbox: createD1WebhookOutbox(db),
      pairTallies: createFakePairs(),
      tallies: {
        snapshot(experiment: string) {
          looked += 1;
          looks.set(experiment, (looks.get(experiment) ?? 0) + 1);
          return Promise.reject(new StoreUnavailable('DO', new Error('busy')));
        },
      },
    };
    await expect(evaluateAll(deps)).rejects.toBeInstanceOf(StoreUnavailable);
    return looked;
  };
  for (let i = 0; i < 3; i += 1) expect(await run()).toBe(EXPERIMENTS_PER_RUN);
  expect(looks.size).toBe(count);
  expect(Math.max(...looks.values()) - Math.min(...looks.values())).toBeLessThanOrEqual(1);
});
