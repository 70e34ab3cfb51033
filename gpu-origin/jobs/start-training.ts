/** The program that trains (`train.ts`) as a child of the origin, which gives way to everything else on the machine. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import type { ChainEntry } from '../../protocol/identity.ts';
import {
  type OriginActivity,
  type TrainingEnd,
  TrainingEvent,
  type TrainingRequest,
} from '../../protocol/training.ts';
import type { Activity } from './give-way.ts';

export interface Training {
  /** Makes it save a checkpoint and end. */
  stop(): void;
  /** Ends it at once. */
  kill(): void;
  /** Settles when the process has ended and its lines are read; never rejects. */
  readonly ended: Promise<TrainingEnd>;
}

export interface TrainingWish {
  request: TrainingRequest;
  /** Root first, with their files. */
  chain: readonly (ChainEntry & { path: string })[];
  rows: string;
  /** File of rows to hold out; null = a share of the others. */
  validation: string | null;
  work: string;
  /** Folder for adapters of earlier steps; null = none are kept. */
  checkpoints: string | null;
  resume: boolean;
  /** Gets every event, the last one too. */
  onEvent: (event: TrainingEvent) => void;
}

export type StartTraining = (wish: TrainingWish) => Training;

/** Lines of its log that are kept. */
const LAST_LINES = 5;
/** Where Linux has it: the kernel ends it before all others when memory ends. */
const FIRST_TO_BE_KILLED = '1000';
/** umask: checkpoints hold what the rows say. */
const PRIVATE = 0o077;

/** Variables that the program may have: where ONNX Runtime lies. The origin's keys are none of them. */
const trainingEnvironment = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(env).filter(([name]) => name === 'GRAFT_ONNXRUNTIME' || !/^GRAFT_/i.test(name)),
  );

/**
 * @param params.program arguments for Node. @param params.baseId it is served under.
 * @param params.threads that the program uses.
 */
export function trainingStarter(params: {
  program: readonly string[];
  basePath: string;
  baseId: string;
  cacheDir: string;
  weights: 'int8' | 'f32';
  provider: 'cpu' | 'web';
  threads: number;
  /** Whether its processor answers requests; null = another device does. */
  activity: Activity | null;
  env: NodeJS.ProcessEnv;
}): StartTraining {
  const common = [
    ...['--base', params.basePath, '--base-id', params.baseId, '--cache', params.cacheDir],
    ...['--weights', params.weights, '--provider', params.provider, '--threads', String(params.threads)],
    '--pack',
  ];
  const env = trainingEnvironment(params.env);
  return ({ request, chain, rows, validation, work, checkpoints, resume, onEvent }) => {
    const own = [
      ...['--rows', rows, '--work', work],
      ...['--settings', JSON.stringify(request), '--chain', JSON.stringify(chain)],
      ...(validation === null ? [] : ['--validation', validation]),
      ...(checkpoints === null ? [] : ['--checkpoints', checkpoints]),
      ...(resume ? ['--resume'] : []),
    ];
    const before = process.umask(PRIVATE);
    // The channel tells it that we are gone. Not detached: Linux weighs priorities within a session.
    const child = spawn(process.execPath, [...params.program, ...common, ...own], {
      env,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    process.umask(before);
    if (child.pid !== undefined) giveWay(child.pid);
    const tell = (message: OriginActivity): void => {
      // It may have ended, or closed the channel.
      if (child.connected) child.send(message, () => undefined);
    };
    const silence = params.activity?.listen((busy) => tell({ busy }));

    const log: string[] = [];
    const keep = (line: string): void => {
      log.push(line);
      if (log.length > LAST_LINES) log.shift();
    };
    let end: TrainingEnd | null = null;
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      const event = parseEvent(line);
      if (event === null) return keep(line);
      if (event === 'other') return;
      if (event.event === 'ready' || event.event === 'failed' || event.event === 'stopped') end = event;
      onEvent(event);
    });
    const errors = createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', keep);
    const read = Promise.all([once(lines, 'close'), once(errors, 'close')]);
    const ended = new Promise<TrainingEnd>((resolve) => {
      child.once('error', ({ message }) => {
        if (child.pid !== undefined) return;
        silence?.();
        resolve({ event: 'died', signal: null, exitCode: null, log: [message] });
      });
      child.once('close', (exitCode, signal) => {
        silence?.();
        // Before it listens, such a signal ends it at once: it was still preparing.
        const isStopped = signal === 'SIGTERM' || signal === 'SIGINT';
        const last: TrainingEnd = isStopped
          ? { event: 'stopped', step: 0, steps: 0 }
          : { event: 'died', signal, exitCode, log };
        void read.then(() => resolve(end ?? last));
      });
    });
    return { ended, stop: () => void child.kill('SIGTERM'), kill: () => void child.kill('SIGKILL') };
  };
}

/** Before it has threads, which inherit this. Not every system has both, or allows it: it trains all the same. */
function giveWay(pid: number): void {
  try {
    setPriority(pid, constants.priority.PRIORITY_LOW);
  } catch {
    // It lowers itself a little.
  }
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, FIRST_TO_BE_KILLED);
  } catch {
    // Not Linux, or a sandbox.
  }
}

/** @returns `other` for a line of the preparation; null = no event. */
function parseEvent(line: string): TrainingEvent | 'other' | null {
  if (!line.startsWith('{')) return null;
  try {
    const event = TrainingEvent.safeParse(JSON.parse(line));
    return event.success ? event.data : 'other';
  } catch {
    return null;
  }
}
