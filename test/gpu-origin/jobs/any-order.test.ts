/** Requests, ends of trainings, full disks and crashes in any order: what holds whatever happens. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { JOB_TICK_MS, STOP_PATIENCE_MS } from '../../../gpu-origin/jobs/jobs.ts';
import { JobReport } from '../../../protocol/training-jobs.ts';
import {
  declarationOf,
  filesWith,
  idOf,
  openRig,
  type PlayedTraining,
  type Rig,
  ROWS,
  SECRET,
  sha256,
} from './rig.ts';

const IDS = ['a', 'b', 'c'].map(idOf);
const ADAPTER = Buffer.from('an adapter of the chain');
const CHAIN = [{ digest: sha256(ADAPTER), scale: 1 }];

const OF_A_JOB = ['declare', 'rows', 'wrong rows', 'pause', 'resume', 'delete', 'ask'] as const;
const OTHERS = [
  'adapter comes',
  'adapter goes',
  'tick',
  'patience',
  'saves',
  'stops',
  'succeeds',
  'fails',
  'dies',
  'disk fills',
  'disk has room',
  'crash',
  'restart',
] as const;
type Move = { what: (typeof OF_A_JOB)[number]; id: string } | { what: (typeof OTHERS)[number]; id: null };
const move: fc.Arbitrary<Move> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ what: fc.constantFrom(...OF_A_JOB), id: fc.constantFrom(...IDS) }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constantFrom(...OTHERS), id: fc.constant(null) }) },
);

/** Plays the moves; checks after each. */
class Play {
  /** Trainings that have not ended. */
  readonly alive = new Set<PlayedTraining>();
  #seen = 0;
  constructor(readonly rig: Rig) {}

  async make({ what, id }: Move): Promise<void> {
    const { rig } = this;
    const [training] = this.alive;
    switch (what) {
      case 'declare': {
        // Jobs on the base, and jobs on a chain.
        const chain = id === IDS[0] ? [] : CHAIN;
        await rig.jobs.declare(id, declarationOf(ROWS, { chain }));
        break;
      }
      case 'rows':
        await rig.jobs.putPart(id, 0, ROWS);
        break;
      case 'wrong rows':
        await rig.jobs.putPart(id, 0, Buffer.alloc(ROWS.length));
        break;
      case 'pause':
        await rig.jobs.pause(id);
        break;
      case 'resume':
        await rig.jobs.resume(id);
        break;
      case 'ask':
        await rig.jobs.report(id, 0);
        break;
      case 'delete':
        await rig.jobs.remove(id);
        expect(rig.files().filter((name) => name.startsWith(id))).toEqual([]);
        break;
      case 'adapter comes':
        rig.adapters.set(CHAIN[0]!.digest, new Uint8Array(ADAPTER));
        break;
      case 'adapter goes':
        rig.adapters.clear();
        break;
      case 'tick':
        rig.pass(JOB_TICK_MS);
        break;
      case 'patience':
        rig.pass(STOP_PATIENCE_MS);
        break;
      case 'saves':
        training?.steps(3);
        training?.saves(3);
        break;
      case 'stops':
        training?.stops(4);
        break;
      case 'succeeds':
        training?.succeeds('a packed adapter');
        break;
      case 'fails':
        training?.fails('loss_not_finite', 'the loss of step 1 is not a number');
        break;
      case 'dies':
        training?.dies('SIGSEGV');
        break;
      case 'disk fills':
        rig.isDiskFull = true;
        break;
      case 'disk has room':
        rig.isDiskFull = false;
        break;
      case 'crash':
        // Its trainings end with it, and nobody hears of that.
        this.alive.clear();
        this.#seen = rig.trainings.length;
        await rig.reopen();
        break;
      case 'restart': {
        const halted = rig.jobs.halt();
        await rig.settled();
        training?.stops(4);
        await halted;
        await rig.reopen();
      }
    }
    // An end, and what follows from it.
    for (let turn = 0; turn < 3; turn += 1) await rig.settled();
  }

  async check(): Promise<void> {
    const { rig } = this;
    for (const training of rig.trainings.slice(this.#seen)) {
      this.alive.add(training);
      void training.ended.then(() => this.alive.delete(training));
    }
    this.#seen = rig.trainings.length;
    await Promise.resolve();
    expect(this.alive.size).toBe(rig.jobs.running);
    expect(this.alive.size).toBeLessThanOrEqual(1);
    expect(rig.faults).toEqual([]);
    const { jobs } = rig.jobs.list();
    const goesOn = jobs.filter(({ state }) => ['receiving', 'waiting', 'running'].includes(state));
    expect(goesOn.length).toBeLessThanOrEqual(1);
    for (const { id, state } of jobs) {
      const report = JobReport.parse(await rig.report(id));
      expect(report.state).toBe(state);
      const numbers = report.events.map(({ number }) => number);
      expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
      expect([report.result !== null, report.failure !== null]).toEqual([
        state === 'done',
        state === 'failed',
      ]);
      const texts = filesWith(rig.folder, SECRET).filter((name) => name.startsWith(id));
      if (state === 'done' || state === 'failed') expect(texts).toEqual([]);
    }
    const known = new Set(jobs.map(({ id }) => id));
    expect(rig.files().filter((name) => !known.has(name.split('/')[0]!))).toEqual([]);
    for (const count of rig.kept.values()) expect(count).toBeGreaterThanOrEqual(0);
  }

  /** Nothing is in the way any more: what goes on ends well. */
  async finish(): Promise<void> {
    const { rig } = this;
    await this.make({ what: 'disk has room', id: null });
    await this.make({ what: 'adapter comes', id: null });
    const isTrained = (id: string): boolean =>
      [...this.alive].some(({ wish, signals }) => wish.work.includes(id) && signals.length === 0);
    for (const id of IDS) {
      for (const other of IDS) if (other !== id) await rig.jobs.pause(other);
      await this.check();
      for (let tries = 0; tries < 6 && !isTrained(id); tries += 1) {
        // One that was paused may still be ending.
        await this.make({ what: 'stops', id: null });
        for (const what of ['resume', 'declare', 'rows'] as const) await this.make({ what, id });
        await this.make({ what: 'tick', id: null });
        await this.check();
      }
      await this.make({ what: 'succeeds', id: null });
      await this.check();
      expect(['done', 'failed']).toContain(await rig.state(id));
      await rig.jobs.remove(id);
    }
    expect(rig.files()).toEqual([]);
  }
}

describe('jobs', () => {
  it('keep one training at a time, and nothing of what is over, in any order of events', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(move, { minLength: 1, maxLength: 40 }), async (moves) => {
        const rig = await openRig();
        const play = new Play(rig);
        try {
          for (const one of moves) {
            await play.make(one);
            await play.check();
          }
          await play.finish();
        } finally {
          await rig.remove();
        }
      }),
      { numRuns: 60 },
    );
  });
});
