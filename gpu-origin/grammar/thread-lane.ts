import { Worker } from 'node:worker_threads';
import { type GrammarTokens, type Lane, LaneLost, type LaneRow, type StartLane, wordsOf } from './ports.ts';

/** Given to the thread when it starts. */
export interface LaneStart {
  /** Bytes of all tokens, one behind the other, and where each ends. */
  bytes: SharedArrayBuffer;
  ends: Int32Array;
  eosIds: readonly number[];
  /** Int32, `[rows, words]`. */
  masks: SharedArrayBuffer;
}

/** What the thread is told. */
export type LaneMessage =
  | { kind: 'compile'; job: number; grammar: number; ebnf: string }
  | { kind: 'forget'; grammar: number }
  | { kind: 'open'; row: number; grammar: number }
  | { kind: 'close'; row: number }
  | { kind: 'step'; job: number; rows: readonly LaneRow[] };

/** … and what it answers. */
export type LaneReply =
  | { kind: 'started' }
  /** `error`: why it does not compile. */
  | { kind: 'compiled'; job: number; error: string | null }
  /** `lost`: why the instance is not to be trusted any more. */
  | { kind: 'stepped'; job: number; failures: readonly (string | null)[]; lost: string | null };

/**
 * Longest time that a grammar may take to compile, ms. A schema of a hundred properties takes 200 ms on one core of an
 * EPYC; bounded lengths take longest, 20 ms a character. On a busy machine all of it takes several times as long.
 */
const COMPILE_LIMIT_MS = 10_000;
/** … that the masks of one step may take, ms; 0.1 ms a row is usual. */
const STEP_LIMIT_MS = 5_000;
/** A thread that takes longer to start is on a machine that has no time for it, ms. */
const START_LIMIT_MS = 60_000;

interface Waiting {
  resolve: (reply: LaneReply) => void;
  reject: (error: LaneLost) => void;
  timer: NodeJS.Timeout;
}

/** A lane in a thread of its own. Whatever it does, this thread goes on; when it takes too long it is ended. */
export const startThreadLane: StartLane = async ({ tokens, rows }) => {
  const masks = new SharedArrayBuffer(4 * rows * wordsOf(tokens.bytes.length));
  const lane = new ThreadLane(tokens, masks);
  await lane.started();
  return lane;
};

class ThreadLane implements Lane {
  readonly masks: Int32Array;
  readonly words: number;
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #jobs = 0;
  #lost: LaneLost | null = null;

  constructor(tokens: GrammarTokens, masks: SharedArrayBuffer) {
    this.masks = new Int32Array(masks);
    this.words = wordsOf(tokens.bytes.length);
    const workerData: LaneStart = { ...packed(tokens.bytes), eosIds: tokens.eosIds, masks };
    // Flags of this process are not the thread's business.
    this.#worker = new Worker(new URL('./start-lane.mjs', import.meta.url), { workerData, execArgv: [] });
    // It must not keep a process alive that has nothing else to do.
    this.#worker.unref();
    this.#worker.on('message', (reply: LaneReply) => this.#settle(reply));
    this.#worker.on('error', (error) => this.#lose(error.message, false));
    this.#worker.on('exit', () => this.#lose('the thread has ended', false));
  }

  async started(): Promise<void> {
    await this.#wait(STARTED, START_LIMIT_MS);
  }

  async compile(grammar: number, ebnf: string): Promise<string | null> {
    const job = this.#nextJob();
    const reply = this.#wait(job, COMPILE_LIMIT_MS);
    this.#tell({ kind: 'compile', job, grammar, ebnf });
    const compiled = await reply;
    return compiled.kind === 'compiled' ? compiled.error : null;
  }

  async step(rows: Parameters<Lane['step']>[0]): Promise<readonly (string | null)[]> {
    const job = this.#nextJob();
    const reply = this.#wait(job, STEP_LIMIT_MS);
    this.#tell({ kind: 'step', job, rows });
    const stepped = await reply;
    if (stepped.kind !== 'stepped') return [];
    if (stepped.lost !== null) throw new LaneLost(stepped.lost, false);
    return stepped.failures;
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

  async stop(): Promise<void> {
    this.#lose('the thread was stopped', false);
    await this.#worker.terminate();
  }

  #nextJob(): number {
    this.#jobs += 1;
    return this.#jobs;
  }

  #tell(message: LaneMessage): void {
    if (this.#lost === null) this.#worker.postMessage(message);
  }

  #wait(job: number, limitMs: number): Promise<LaneReply> {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#lose(`no answer in ${limitMs / 1000} s`, true), limitMs);
      this.#waiting.set(job, { resolve, reject, timer });
    });
  }

  #settle(reply: LaneReply): void {
    const job = reply.kind === 'started' ? STARTED : reply.job;
    const waiting = this.#waiting.get(job);
    if (waiting === undefined) return;
    this.#waiting.delete(job);
    clearTimeout(waiting.timer);
    waiting.resolve(reply);
  }

  #lose(message: string, tooLong: boolean): void {
    this.#lost ??= new LaneLost(message, tooLong);
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(this.#lost);
    }
    this.#waiting.clear();
    if (tooLong) void this.#worker.terminate();
  }
}

/** The job of the thread's start. */
const STARTED = 0;

function packed(tokens: readonly Uint8Array[]): Pick<LaneStart, 'bytes' | 'ends'> {
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
