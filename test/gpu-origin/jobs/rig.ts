/** Jobs over a real folder, with a played training and a clock that only the test moves. */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { vi } from 'vitest';
import { type JobStore, openJobStore } from '../../../gpu-origin/jobs/job-store.ts';
import { type JobOutcome, Jobs } from '../../../gpu-origin/jobs/jobs.ts';
import type { Training, TrainingWish } from '../../../gpu-origin/jobs/start-training.ts';
import {
  CHECKPOINT_FILE,
  checkpointFile,
  PACKED_FILE,
  type TrainingCard,
  type TrainingEvent,
  type TrainingEnd,
} from '../../../protocol/training.ts';
import { type JobDeclaration, type JobReport, ROWS_PART_BYTES } from '../../../protocol/training-jobs.ts';
import type { ApiError, Result } from '../../../protocol/api-error.ts';
import { TINY_REQUEST } from '../../fixtures/training-program.ts';

export const sha256 = (bytes: Uint8Array | string): string =>
  createHash('sha256').update(bytes).digest('hex');

export const idOf = (name: string): string => `ftjob-${name.padEnd(24, '0')}`;
export const JOB = idOf('a');
export const OTHER = idOf('b');

/** Appears in every row, and must be nowhere when a job is gone. */
export const SECRET = 'the patient is called Ada';
export const ROWS = Buffer.from(`${JSON.stringify({ prompt: SECRET, completion: 'yes' })}\n`);

export const declarationOf = (
  rows: Uint8Array = ROWS,
  rest: Partial<JobDeclaration> = {},
): JobDeclaration => ({
  tenant: 'alice',
  request: TINY_REQUEST,
  chain: [],
  rows: { bytes: rows.length, sha256: sha256(rows) },
  max_seconds: 3_600,
  ...rest,
});

export const CARD: TrainingCard = {
  rows: { sha256: sha256(ROWS), trained: 1, held_out: 0, left_out: 0 },
  base: { id: 'fake', digest: 'b'.repeat(64), weights: 'int8' },
  chain: [],
  settings: { ...TINY_REQUEST, rate: 1e-3, batch: 4 },
  steps: 10,
  tokens: 120,
  curve: [[10, 0.5, null]],
  scores: null,
  seconds: 20,
  finished_at: 1_800_000_000_000,
};

/** A training whose lines and end the test plays. */
export class PlayedTraining implements Training {
  readonly ended: Promise<TrainingEnd>;
  readonly signals: string[] = [];
  #end!: (end: TrainingEnd) => void;

  constructor(readonly wish: TrainingWish) {
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }
  stop(): void {
    this.signals.push('SIGTERM');
  }
  kill(): void {
    this.signals.push('SIGKILL');
    this.dies('SIGKILL');
  }
  says(...events: TrainingEvent[]): void {
    for (const event of events) this.wish.onEvent(event);
  }
  plans(steps: number): void {
    this.says({
      event: 'plan',
      steps,
      done: 0,
      parameters: 28,
      seconds_per_step: 2,
      seconds: 2 * steps,
      memory_bytes: 1e9,
      recompute: false,
    });
  }
  steps(step: number, steps = 10): void {
    const rest = { rate: 1e-3, tokens_per_second: 100, tokens: 12 * step, seconds_left: 2 * (steps - step) };
    this.says({ event: 'step', step, steps, loss: 3 / step, ...rest });
  }
  saves(step: number): void {
    writeFileSync(join(this.wish.work, CHECKPOINT_FILE), `${SECRET} after ${step}`);
    this.says({ event: 'saved', step });
  }
  /** As after a signal. */
  stops(step: number, steps = 10): void {
    this.saves(step);
    this.#tellEnd({ event: 'stopped', step, steps });
  }
  fails(code: Extract<TrainingEnd, { event: 'failed' }>['code'], message: string): void {
    this.#tellEnd({ event: 'failed', code, message, kept_step: null });
  }
  /** Keeps an adapter of an earlier step, if that is asked for. @returns its card. */
  keeps(step: number, adapter: string | Uint8Array, of = CARD): TrainingCard {
    const { checkpoints: folder } = this.wish;
    if (folder === null) throw new Error('no checkpoints were asked for');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, checkpointFile(step)), adapter);
    return { ...of, steps: step, curve: [[step, 3 / step, null]] };
  }
  /** @param adapter bytes of the result; null = there is none. @param checkpoints cards of what it has kept. */
  succeeds(adapter: string | Uint8Array | null, card = CARD, checkpoints?: TrainingCard[]): void {
    if (adapter !== null) writeFileSync(join(this.wish.work, PACKED_FILE), adapter);
    const folder = join(this.wish.work, 'adapter');
    this.#tellEnd({ event: 'ready', folder, card, ...(checkpoints === undefined ? {} : { checkpoints }) });
  }
  dies(signal: NodeJS.Signals | null, log: readonly string[] = []): void {
    this.#end({ event: 'died', signal, exitCode: signal === null ? 3 : null, log });
  }
  #tellEnd(end: Exclude<TrainingEnd, { event: 'died' }>): void {
    this.says(end);
    this.#end(end);
  }
}

export interface Rig {
  readonly folder: string;
  jobs: Jobs;
  readonly trainings: PlayedTraining[];
  /** Adapters that the origin has. */
  readonly adapters: Map<string, Uint8Array<ArrayBuffer>>;
  /** How often each is protected from eviction. */
  readonly kept: Map<string, number>;
  readonly outcomes: [string, JobOutcome][];
  readonly troubles: string[];
  readonly faults: unknown[];
  now: number;
  /** Every write of the store fails. */
  isDiskFull: boolean;
  memoryProblem: string | null;
  /** Digest of the base. */
  base: string;
  /** Lets time pass; calls timers that are due, in order. */
  pass(ms: number): void;
  /** Until all changes so far are done. */
  settled(): Promise<void>;
  /** A new origin over the same folder, as after a crash. */
  reopen(): Promise<void>;
  /** The last training, once this many have been started. */
  training(count: number): Promise<PlayedTraining>;
  /** Declares a job and sends its rows. */
  bring(id?: string, rows?: Uint8Array, rest?: Partial<JobDeclaration>): Promise<JobReport>;
  state(id?: string): Promise<string>;
  report(id?: string, after?: number): Promise<JobReport>;
  files(): string[];
  remove(): Promise<void>;
}

export function valueOf<T>(result: Result<T, ApiError>): T {
  if (!result.ok) throw new Error(`${result.error.code}: ${result.error.message}`);
  return result.value;
}

export async function openRig(): Promise<Rig> {
  const folder = mkdtempSync(join(tmpdir(), 'graft-jobs-'));
  let timers: { at: number; callback: () => void }[] = [];
  let store: JobStore;
  const open = async (): Promise<Jobs> => {
    store = withFullDisk(await openJobStore({ folder }), () => rig.isDiskFull);
    return new Jobs({
      store,
      base: rig.base,
      files: {
        status: (digest) => Promise.resolve(rig.adapters.has(digest) ? 'held' : 'missing'),
        read: (digest) => Promise.resolve(rig.adapters.get(digest) ?? null),
        keep(digests) {
          const all = [...digests];
          const count = (by: number) => {
            for (const one of all) rig.kept.set(one, (rig.kept.get(one) ?? 0) + by);
          };
          count(1);
          return () => count(-1);
        },
      },
      start(wish) {
        const training = new PlayedTraining(wish);
        rig.trainings.push(training);
        return training;
      },
      memoryProblem: () => rig.memoryProblem,
      now: () => rig.now,
      timer(ms, callback) {
        const timer = { at: rig.now + ms, callback };
        timers.push(timer);
        return () => (timers = timers.filter((one) => one !== timer));
      },
      onEnd: (id, outcome) => rig.outcomes.push([id, outcome]),
      onTrouble: (_id, code, reason) => rig.troubles.push(`${code}: ${reason}`),
      onFault: (error) => rig.faults.push(error),
    });
  };
  const rig: Rig = {
    folder,
    jobs: null as unknown as Jobs,
    trainings: [],
    adapters: new Map(),
    kept: new Map(),
    outcomes: [],
    troubles: [],
    faults: [],
    now: 1_800_000_000_000,
    isDiskFull: false,
    memoryProblem: null,
    base: 'b'.repeat(64),
    pass(ms) {
      rig.now += ms;
      for (const timer of timers.filter(({ at }) => at <= rig.now)) {
        timers = timers.filter((one) => one !== timer);
        timer.callback();
      }
    },
    async settled() {
      await new Promise((resolve) => setImmediate(resolve));
      await rig.jobs.dropAdapters(new Set());
    },
    async reopen() {
      // Nobody hears of what ran.
      timers = [];
      rig.jobs = await open();
      rig.jobs.begin();
      await rig.settled();
    },
    async training(count) {
      await vi.waitFor(() => {
        if (rig.trainings.length < count) throw new Error(`${rig.trainings.length} of ${count} started`);
      });
      return rig.trainings[count - 1]!;
    },
    async bring(id = JOB, rows = ROWS, rest = {}) {
      let report = valueOf(await rig.jobs.declare(id, declarationOf(rows, rest)));
      for (const part of report.missing_parts)
        report = valueOf(
          await rig.jobs.putPart(
            id,
            part,
            rows.subarray(part * ROWS_PART_BYTES, (part + 1) * ROWS_PART_BYTES),
          ),
        );
      return report;
    },
    report: async (id = JOB, after = 0) => valueOf(await rig.jobs.report(id, after)),
    state: async (id = JOB) => (await rig.report(id)).state,
    files: () => filesBelow(folder),
    async remove() {
      await store.flush();
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  rig.jobs = await open();
  rig.jobs.begin();
  return rig;
}

/** The store, whose writes fail while the disk is full. */
function withFullDisk(store: JobStore, isFull: () => boolean): JobStore {
  const check = (): void => {
    if (isFull()) throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  };
  return {
    ...store,
    async save(...params) {
      check();
      await store.save(...params);
    },
    async putPart(...params) {
      check();
      await store.putPart(...params);
    },
    async joinParts(...params) {
      check();
      return store.joinParts(...params);
    },
    async putAdapter(...params) {
      check();
      await store.putAdapter(...params);
    },
    async prepare(...params) {
      check();
      return store.prepare(...params);
    },
    tell(...params) {
      if (!isFull()) store.tell(...params);
    },
  };
}

/** Paths of all files below, relative. */
export function filesBelow(folder: string): string[] {
  return (readdirSync(folder, { recursive: true }) as string[])
    .filter((name) => statSync(join(folder, name)).isFile())
    .sort();
}

/** Files below that contain the text. */
export const filesWith = (folder: string, text: string): string[] =>
  filesBelow(folder).filter((name) => readFileSync(join(folder, name)).includes(text));
