import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import {
  type AskedForm,
  type Compiled,
  type GrammarTokens,
  type GrammarWorker,
  GrammarWorkerLost,
  type GrammarWorkerRow,
  type LossReason,
  QUICK_MS,
  type StartGrammarWorker,
  type Stepped,
  wordsOf,
} from './ports.ts';

/** Given to the thread when it starts. */
export interface ThreadStart {
  tokens: {
    /** Bytes of all tokens, one behind the other, and where each ends. */
    bytes: SharedArrayBuffer;
    ends: Int32Array;
    eosIds: readonly number[];
  } | null;
}

/** What the thread is told. */
export type ThreadMessage =
  | { kind: 'compile'; job: number; grammar: number; asked: AskedForm }
  | { kind: 'forget'; grammar: number }
  | { kind: 'open'; row: number; grammar: number }
  | { kind: 'close'; row: number }
  | { kind: 'step'; job: number; rows: readonly GrammarWorkerRow[] }
  | { kind: 'giveWay' };

/** … and what it answers. */
export type ThreadReply =
  /** `thread`: what the system calls it; null where it has no name. */
  | { kind: 'started'; thread: number | null }
  | { kind: 'compiled'; job: number; compiled: Compiled }
  | { kind: 'stepped'; job: number; stepped: Stepped }
  /** The instance is not to be trusted any more. */
  | { kind: 'lost'; job: number; reason: string };

/**
 * CPU time to compile the grammar of one request. A schema of a hundred properties takes 0.2 s; bounded lengths take
 * longest.
 */
// On one core of an EPYC; a bounded length takes 20 ms a character.
export const COMPILE_LIMIT_MS = 10_000;
/** CPU time for the masks of one step, ms; 0.1 ms a row is usual. */
export const STEP_LIMIT_MS = 5_000;
/**
 * Longest time that anything may take whatever CPU time it gets, ms: on a machine that has none to give. A thread that
 * takes longer to start is on such a machine, too.
 */
export const WALL_LIMIT_MS = 60_000;
/** How often a working thread is checked, ms. Its work before the first check does not count. */
const LOOK_EVERY_MS = 100;

/** Time of this process and of its threads, injected so that tests control it. */
export interface ThreadClock {
  /** Milliseconds, monotonic. */
  now(): number;
  /** CPU time of a thread, ms; null if the system does not report it. */
  cpuMs(thread: number): number | null;
  /** @returns a function that stops it. */
  every(ms: number, callback: () => void): () => void;
}

const systemThreadClock: ThreadClock = {
  now: () => performance.now(),
  cpuMs(thread) {
    try {
      // On Linux: the time that it ran, in ns, before what it waited.
      const ms = Number.parseInt(readFileSync(`/proc/self/task/${thread}/schedstat`, 'latin1'), 10) / 1e6;
      return Number.isFinite(ms) ? ms : null;
    } catch {
      return null;
    }
  },
  every(ms, callback) {
    const timer = setInterval(callback, ms).unref();
    return () => clearInterval(timer);
  },
};

interface Waiting {
  readonly limitMs: number;
  readonly onLong: (() => void) | undefined;
  readonly resolve: (reply: ThreadReply) => void;
  readonly reject: (error: GrammarWorkerLost) => void;
}

/** A worker in its own thread. The calling thread is never blocked; a worker that takes too long is ended. */
export const threadWorkers =
  (clock: ThreadClock): StartGrammarWorker =>
  async ({ tokens }) => {
    const worker = new ThreadWorker(tokens, clock);
    await worker.started();
    return worker;
  };

export const startThreadWorker = threadWorkers(systemThreadClock);

class ThreadWorker implements GrammarWorker {
  readonly words: number;
  readonly #clock: ThreadClock;
  readonly #worker: Worker;
  /** In the thread's order of work. */
  readonly #waiting = new Map<number, Waiting>();
  #thread: number | null = null;
  #jobs = STARTED;
  #lost: GrammarWorkerLost | null = null;
  /** The thread's current job, and since when. */
  #seen: { job: number; at: number; cpuMs: number | null; long: boolean } | null = null;
  #unwatch: (() => void) | null = null;

  constructor(tokens: GrammarTokens | null, clock: ThreadClock) {
    this.#clock = clock;
    this.words = wordsOf(tokens?.vocabSize ?? 0);
    const workerData: ThreadStart = {
      tokens: tokens === null ? null : { ...packed(tokens.bytes()), eosIds: tokens.eosIds },
    };
    // The thread gets none of this process's flags.
    this.#worker = new Worker(new URL('./start-grammar-thread.mjs', import.meta.url), {
      workerData,
      execArgv: [],
    });
    // It must not keep an otherwise finished process alive.
    this.#worker.unref();
    this.#worker.on('message', (reply: ThreadReply) => this.#settle(reply));
    this.#worker.on('error', (error) => this.#lose(error.message, 'failed'));
    this.#worker.on('exit', () => this.#lose('the thread has ended', 'failed'));
  }

  async started(): Promise<void> {
    const reply = await this.#wait(STARTED, WALL_LIMIT_MS);
    if (reply.kind === 'started') this.#thread = reply.thread;
  }

  async compile(grammar: number, asked: AskedForm, onLong?: () => void): Promise<Compiled> {
    const job = this.#nextJob();
    const reply = this.#wait(job, COMPILE_LIMIT_MS, onLong);
    this.#tell({ kind: 'compile', job, grammar, asked });
    const compiled = await reply;
    if (compiled.kind !== 'compiled') throw this.#lose('an unexpected answer', 'failed');
    return compiled.compiled;
  }

  async step(rows: readonly GrammarWorkerRow[]): Promise<Stepped> {
    const job = this.#nextJob();
    const reply = this.#wait(job, STEP_LIMIT_MS);
    this.#tell({ kind: 'step', job, rows });
    const stepped = await reply;
    if (stepped.kind === 'lost') throw this.#lose(stepped.reason, 'failed');
    if (stepped.kind !== 'stepped') throw this.#lose('an unexpected answer', 'failed');
    return stepped.stepped;
  }

  forget(grammar: number): void {
    this.#tell({ kind: 'forget', grammar });
  }

  open(row: number, grammar: number): void {
    this.#tell({ kind: 'open', row, grammar });
  }

  close(row: number): void {
    this.#tell({ kind: 'close', row });
  }

  giveWay(): void {
    this.#tell({ kind: 'giveWay' });
  }

  async stop(): Promise<void> {
    this.#lose('the thread was stopped', 'failed');
    await this.#worker.terminate();
  }

  #nextJob(): number {
    this.#jobs += 1;
    return this.#jobs;
  }

  #tell(message: ThreadMessage): void {
    if (this.#lost === null) this.#worker.postMessage(message);
  }

  #wait(job: number, limitMs: number, onLong?: () => void): Promise<ThreadReply> {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    this.#unwatch ??= this.#clock.every(LOOK_EVERY_MS, () => this.#look());
    return new Promise((resolve, reject) => {
      this.#waiting.set(job, { limitMs, onLong, resolve, reject });
    });
  }

  /** Measures the thread's current job, from the first check that sees it. */
  #look(): void {
    const [first] = this.#waiting;
    if (first === undefined) {
      this.#unwatch?.();
      this.#unwatch = null;
      return;
    }
    const [job, { limitMs, onLong }] = first;
    const at = this.#clock.now();
    const cpuMs = this.#thread === null ? null : this.#clock.cpuMs(this.#thread);
    const seen = this.#seen;
    if (seen?.job !== job) {
      this.#seen = { job, at, cpuMs, long: false };
      return;
    }
    const waitedMs = at - seen.at;
    const workedMs = cpuMs === null || seen.cpuMs === null ? null : cpuMs - seen.cpuMs;
    if (!seen.long && (workedMs ?? waitedMs) > QUICK_MS) {
      seen.long = true;
      onLong?.();
    }
    if (workedMs !== null && workedMs > limitMs)
      this.#lose(`no answer in ${limitMs / 1000} s of work`, 'work');
    else if (waitedMs > (workedMs === null ? limitMs : WALL_LIMIT_MS))
      this.#lose(`no answer in ${Math.round(waitedMs / 1000)} s`, 'starved');
  }

  #settle(reply: ThreadReply): void {
    const job = reply.kind === 'started' ? STARTED : reply.job;
    const waiting = this.#waiting.get(job);
    this.#waiting.delete(job);
    waiting?.resolve(reply);
  }

  #lose(message: string, reason: LossReason): GrammarWorkerLost {
    this.#lost ??= new GrammarWorkerLost(message, reason);
    for (const { reject } of this.#waiting.values()) reject(this.#lost);
    this.#waiting.clear();
    this.#unwatch?.();
    this.#unwatch = null;
    if (reason !== 'failed') void this.#worker.terminate();
    return this.#lost;
  }
}

/** The job of the thread's start. */
const STARTED = 0;

function packed(tokens: readonly Uint8Array[]): Pick<NonNullable<ThreadStart['tokens']>, 'bytes' | 'ends'> {
  const ends = new Int32Array(tokens.length);
  let end = 0;
  for (const [id, token] of tokens.entries()) {
    end += token.length;
    ends[id] = end;
  }
  const bytes = new SharedArrayBuffer(end);
  const all = new Uint8Array(bytes);
  for (const [id, token] of tokens.entries()) all.set(token, ends[id]! - token.length);
  return { bytes, ends };
}
