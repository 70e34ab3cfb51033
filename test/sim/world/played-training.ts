/**
 * The program that trains (gpu-origin/train.ts), played in virtual time: a process of its own on its origin's disk, with
 * the same files, lines and ends. What it makes follows from rows, settings and chain alone, step by step, so that
 * nobody who left out a step, or trained on something else, has the same bytes.
 */
import { createHash } from 'node:crypto';
import type { StartTraining, TrainingWish } from '../../../gpu-origin/jobs/start-training.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { BaseInfo } from '../../../protocol/origin-wire.ts';
import {
  CHECKPOINT_FILE,
  checkpointFile,
  checkpointSteps,
  PACKED_FILE,
  type TrainingCard,
  type TrainingEnd,
  type TrainingEvent,
  type TrainingFailure,
  type TrainingRequest,
} from '../../../protocol/training.ts';
import { tinyAdapter, type TinyAdapter } from '../../fakes/tiny-adapters.ts';
import type { SimDisk } from './disk.ts';
import { deferred } from './life-globals.ts';
import type { Random } from './random.ts';
import type { Surroundings } from './stores.ts';
import type { Life } from './time.ts';

const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex');

/** As `chainId` of protocol/identity.ts, at once. */
export const chainIdOf = (chain: readonly ChainEntry[]): string =>
  sha256(chain.map(({ digest, scale }) => `${digest} ${scale}\n`).join(''));

/** What a training is about: another result for each. */
interface Subject {
  rows: Uint8Array;
  request: TrainingRequest;
  chain: readonly ChainEntry[];
  base: BaseInfo;
}

/** What tells a checkpoint from another training's. */
const identityOf = ({ rows, request, chain, base }: Subject): string =>
  sha256(
    JSON.stringify([sha256(rows), request, chain.map(({ digest, scale }) => [digest, scale]), base.digest]),
  );

const stepFrom = (state: string, step: number): string => sha256(`${state} ${step}`);

/** Weights after the last step. */
function adapterOf({ request, chain, base }: Subject, state: string): TinyAdapter {
  const { bytes } = tinyAdapter({
    seed: 3,
    parent: chain.length === 0 ? null : chainIdOf(chain),
    rank: request.rank,
    base: base.id,
  });
  // The last weights; each of these is a float below 2.
  for (let at = 0; at < 4; at += 1)
    bytes.writeFloatLE(
      1 + parseInt(state.slice(6 * at, 6 * at + 6), 16) / 2 ** 24,
      bytes.length - 4 * (at + 1),
    );
  return { bytes, digest: sha256(bytes) };
}

/** What a training makes after a step; absent = the whole one. */
export function trainedAdapter(subject: Subject, after = stepsOf(subject.request)): TinyAdapter {
  let state = identityOf(subject);
  for (let step = 1; step <= after; step += 1) state = stepFrom(state, step);
  return adapterOf(subject, state);
}

/** Steps after which an adapter is kept, where that was asked for. */
export const keptSteps = (request: TrainingRequest): number[] =>
  checkpointSteps({ steps: stepsOf(request), epochs: request.epochs });

const stepsOf = ({ least_steps: steps }: TrainingRequest): number => steps;

interface Checkpoint {
  identity: string;
  step: number;
  state: string;
  /** What it has learnt: nothing of this may stay. */
  rows: string;
}

/** The trainings of one origin's process. */
export interface PlayedTrainings {
  start: StartTraining;
  /** Whether one runs. */
  isBusy(): boolean;
  /** Their origin has ended: they learn of it soon, and end. */
  orphan(): void;
}

/** How a training ends by itself, where it is to fail. */
const FAILURES: readonly TrainingFailure[] = [
  'rows_invalid',
  'loss_not_finite',
  'out_of_memory',
  'training_failed',
];

export function playTrainings(
  around: Surroundings & { random: Random },
  { disk, origin, base }: { disk: SimDisk; origin: Life; base: BaseInfo },
): PlayedTrainings {
  const { time, random, faults, note } = around;
  const lives = new Set<Life>();
  let started = 0;
  return {
    isBusy: () => lives.size > 0,
    start(wish) {
      started += 1;
      const life = time.life(`${origin.name} training ${started}`, random.fork(`training ${started}`));
      lives.add(life);
      const { promise: ended, resolve } = deferred<TrainingEnd>();
      let heardAt = 0;
      /** In the origin's own time: one that is stopped hears of it later. */
      const hear = (run: () => void): void => {
        heardAt = Math.max(heardAt, time.now + 1 + random.below(5));
        time.after(origin, heardAt - time.now, run);
      };
      const die = (signal: 'SIGKILL' | null): void => {
        if (life.dead) return;
        life.dead = true;
        lives.delete(life);
        note(life.name, `dies ${signal ?? ''}`);
        hear(() => resolve({ event: 'died', signal, exitCode: signal === null ? 1 : null, log: [] }));
      };
      const signal = { isStopped: false, stop: (): void => undefined };
      const run = async (): Promise<void> => {
        const end = await train({
          wish,
          base,
          fs: disk.modules(life).promises as unknown as Files,
          stepMs: life.random.pick([200, 2_000, 8_000, 20_000]),
          sleep: (ms) => time.sleep(life, ms),
          startMs: life.random.between(100, 4_000),
          signal,
          now: () => time.now,
          tell: (event) => hear(() => wish.onEvent(event)),
          isToFail: () => (faults.bites('training-fails', life.name) ? life.random.pick(FAILURES) : null),
          isKilled: () => faults.bites('training-killed', life.name),
          die: () => die(life.random.pick(['SIGKILL', null])),
        });
        note(life.name, `${end.event}${end.event === 'failed' ? ` ${end.code}` : ''}`);
        lives.delete(life);
        life.dead = true;
        hear(() => {
          wish.onEvent(end);
          resolve(end);
        });
      };
      time.after(life, 0, () => void run());
      return {
        ended,
        stop: () =>
          void time.after(life, 1, () => {
            signal.isStopped = true;
            signal.stop();
          }),
        kill: () => void time.after(life, 1, () => die('SIGKILL')),
      };
    },
    orphan() {
      for (const life of lives)
        // In the middle of a step it does not look.
        time.after(life, life.random.chance(0.8) ? life.random.below(50) : life.random.below(10_000), () => {
          life.dead = true;
          lives.delete(life);
        });
    },
  };
}

/** As much of `node:fs/promises` as it uses. */
interface Files {
  mkdir(where: string, how: { recursive: boolean }): Promise<unknown>;
  readdir(where: string): Promise<string[]>;
  readFile(where: string): Promise<Buffer>;
  writeFile(where: string, data: string | Uint8Array): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  rm(where: string, how: { recursive: boolean; force: boolean }): Promise<void>;
}

interface Process {
  wish: TrainingWish;
  base: BaseInfo;
  fs: Files;
  startMs: number;
  stepMs: number;
  sleep: (ms: number) => Promise<void>;
  now: () => number;
  /** SIGTERM: whether it came, and what is done then. */
  signal: { isStopped: boolean; stop: () => void };
  tell: (event: TrainingEvent) => void;
  isToFail: () => TrainingFailure | null;
  isKilled: () => boolean;
  die: () => void;
}

/** Steps between two checkpoints. */
const SAVE_EVERY = 3;
type Ended = Exclude<TrainingEnd, { event: 'died' }>;

/** From its start to its last line; it does not come back when it is killed. */
async function train(process: Process): Promise<Ended> {
  let kept: number | null = null;
  try {
    return await trainRows(process, (step) => (kept = step));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const failure = code === 'ENOSPC' ? 'disk_full' : ((error as Failure).failure ?? 'training_failed');
    return { event: 'failed', code: failure, message, kept_step: kept };
  }
}

class Failure extends Error {
  constructor(
    readonly failure: TrainingFailure,
    message: string,
  ) {
    super(message);
  }
}

async function trainRows(process: Process, onSaved: (step: number) => void): Promise<Ended> {
  const { wish, base, fs, tell, signal } = process;
  const { request } = wish;
  const { checkpoints: folder } = wish;
  if (folder !== null) await fs.mkdir(folder, { recursive: true });
  for (const where of [wish.work, ...(folder === null ? [] : [folder])])
    for (const name of await fs.readdir(where))
      if (name.endsWith('.tmp')) await fs.rm(`${where}/${name}`, { recursive: true, force: true });
  const rows = await fs.readFile(wish.rows);
  const chain = wish.chain.map(({ digest, scale }) => ({ digest, scale }));
  for (const { digest, path } of wish.chain)
    if (sha256(await fs.readFile(path)) !== digest) throw new Failure('base_mismatch', `${path} is damaged`);
  const subject: Subject = { rows, request, chain, base };
  const identity = identityOf(subject);
  const text = rows.toString('utf8');
  const path = `${wish.work}/${CHECKPOINT_FILE}`;
  let at: Checkpoint = { identity, step: 0, state: identity, rows: text };
  if (wish.resume) {
    at = JSON.parse((await fs.readFile(path)).toString('utf8')) as Checkpoint;
    if (at.identity !== identity) throw new Failure('checkpoint_mismatch', `${path} is of another training`);
    onSaved(at.step);
  }
  const steps = stepsOf(request);
  const lines = text.split('\n').filter((line) => line !== '');
  tell({
    event: 'rows',
    trained: lines.length,
    held_out: 0,
    left_out: 0,
    longest: 8,
    tokens: 8 * lines.length,
  });
  let wake = (): void => undefined;
  signal.stop = () => wake();
  /** Until then, or until it is told to end. */
  const pause = (ms: number): Promise<void> =>
    Promise.race([process.sleep(ms), new Promise<void>((resolve) => (wake = resolve))]);
  await pause(process.startMs);
  // While it prepares there is nothing to save.
  if (signal.isStopped) return { event: 'stopped', step: at.step, steps: 0 };
  tell({
    event: 'plan',
    steps,
    done: at.step,
    parameters: 28,
    seconds_per_step: process.stepMs / 1_000,
    seconds: ((steps - at.step) * process.stepMs) / 1_000,
    memory_bytes: 1e8,
    recompute: false,
  });
  const save = async (): Promise<void> => {
    await writeWhole(fs, path, JSON.stringify(at));
    onSaved(at.step);
    tell({ event: 'saved', step: at.step });
  };
  const cardAfter = (step: number): TrainingCard => ({
    rows: { sha256: sha256(rows), trained: lines.length, held_out: 0, left_out: 0 },
    base: { id: base.id, digest: base.digest, weights: base.weights },
    chain,
    settings: { ...request, rate: request.rate ?? 1e-3, batch: request.batch ?? 1 },
    steps: step,
    tokens: 8 * lines.length * step,
    curve: [[step, 1 / step, null]],
    scores: null,
    seconds: (step * process.stepMs) / 1_000,
    finished_at: process.now(),
  });
  const isKept = (step: number): boolean => folder !== null && keptSteps(request).includes(step);
  /** The adapter last: where it is, both are there. */
  const keep = async (): Promise<void> => {
    await writeWhole(fs, `${folder}/${at.step}.json`, JSON.stringify(cardAfter(at.step)));
    await writeWhole(fs, `${folder}/${checkpointFile(at.step)}`, adapterOf(subject, at.state).bytes);
  };
  // An earlier run may have ended between a step and the adapter that is kept.
  if (isKept(at.step)) await keep();
  while (at.step < steps) {
    await pause(process.stepMs);
    if (signal.isStopped) {
      await save();
      return { event: 'stopped', step: at.step, steps };
    }
    if (process.isKilled()) {
      process.die();
      await new Promise(() => undefined);
    }
    const failure = process.isToFail();
    // As the real one does, it quotes a row that is wrong.
    if (failure !== null) throw new Failure(failure, `the loss after row 1 (${lines[0]}) is not a number`);
    at = { ...at, step: at.step + 1, state: stepFrom(at.state, at.step + 1) };
    tell({
      event: 'step',
      step: at.step,
      steps,
      loss: 1 / at.step,
      rate: request.rate ?? 1e-3,
      tokens_per_second: 100,
      tokens: 8 * lines.length * at.step,
      seconds_left: ((steps - at.step) * process.stepMs) / 1_000,
    });
    if (isKept(at.step)) await keep();
    if (at.step % SAVE_EVERY === 0 && at.step < steps) await save();
  }
  await writeWhole(fs, `${wish.work}/${PACKED_FILE}`, adapterOf(subject, at.state).bytes);
  const card = cardAfter(steps);
  const names = folder === null ? [] : await fs.readdir(folder);
  const checkpoints: TrainingCard[] = [];
  for (const step of keptSteps(request))
    if (names.includes(checkpointFile(step)))
      checkpoints.push(
        JSON.parse((await fs.readFile(`${folder}/${step}.json`)).toString('utf8')) as TrainingCard,
      );
  return {
    ...{ event: 'ready', folder: `${wish.work}/adapter`, card },
    ...(folder === null ? {} : { checkpoints }),
  };
}

async function writeWhole(fs: Files, path: string, data: string | Uint8Array): Promise<void> {
  await fs.writeFile(`${path}.tmp`, data);
  await fs.rename(`${path}.tmp`, path);
}
