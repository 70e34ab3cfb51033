/** Whose prompt is encoded when: a slice at a time, tenants in turn. */
import { type ApiError, type BaseInfo, err, ok, type Result } from '../../protocol/index.ts';
import type { Clock } from '../engine/ports.ts';
import type { ChatTemplate } from '../model/chat-template.ts';
import type { Steps } from '../model/text-steps.ts';
import type { Tokenizer } from '../model/tokenizer.ts';

/** How long prompts are encoded before other work of the event loop has its turn, ms: a tenth of a long decode step. */
export const SLICE_MS = 5;
/** Prompts that wait to be encoded, bytes: 16 of the largest, some ten seconds of the slowest text. */
export const MAX_WAITING_BYTES = 16_000_000;
/** … of one tenant, so that four are needed to keep others out. */
export const MAX_TENANT_WAITING_BYTES = 4_000_000;
/** What is encoded in a millisecond of the slowest text, bytes: for saying when to come back. */
const BYTES_PER_MS = 1_000;

export interface PromptWork<T> {
  tenant: string;
  /** Size of what is to be encoded, bytes. */
  bytes: number;
  /** Aborting it ends the work before its next slice. */
  signal: AbortSignal;
  steps: Steps<T>;
}

interface Job {
  readonly bytes: number;
  /** Goes one step on. @returns whether that was the last. */
  step(): boolean;
}

/**
 * Encodes prompts a slice at a time, so that none of them keeps the event loop. Tenants take turns, and the prompts of
 * each: a short one waits for about one slice of each other tenant, however long theirs are.
 */
export class PromptQueue {
  readonly #clock: Pick<Clock, 'now' | 'yield'>;
  /** In the order of their turns. */
  readonly #waiting = new Map<string, Job[]>();
  readonly #bytes = new Map<string, number>();
  #total = 0;
  #running = false;

  constructor(clock: Pick<Clock, 'now' | 'yield'>) {
    this.#clock = clock;
  }

  /** Refuses with `queue_full` what finds too much waiting. Rejects with what a step throws. */
  run<T>({ tenant, bytes, signal, steps }: PromptWork<T>): Promise<Result<T, ApiError>> {
    const held = this.#bytes.get(tenant) ?? 0;
    // A tenant's only prompt, and the only one, always has room.
    const full =
      (held > 0 && held + bytes > MAX_TENANT_WAITING_BYTES) ||
      (this.#total > 0 && this.#total + bytes > MAX_WAITING_BYTES);
    if (full) return Promise.resolve(err(tooManyWaiting(this.#total)));
    return new Promise((resolve, reject) => {
      this.#add(tenant, {
        bytes,
        step() {
          if (signal.aborted) {
            resolve(err(CALLER_GONE));
            return true;
          }
          try {
            const { done, value } = steps.next();
            if (done === true) resolve(ok(value));
            return done === true;
          } catch (error) {
            reject(error as Error);
            return true;
          }
        },
      });
    });
  }

  #add(tenant: string, job: Job): void {
    this.#count(tenant, job.bytes);
    const jobs = this.#waiting.get(tenant);
    if (jobs === undefined) this.#waiting.set(tenant, [job]);
    else jobs.push(job);
    if (!this.#running) void this.#work();
  }

  async #work(): Promise<void> {
    this.#running = true;
    // Reading and parsing the body have had their share of this turn.
    await this.#clock.yield();
    let began = this.#clock.now();
    for (const [tenant, jobs] of this.#turns()) {
      const job = jobs.shift()!;
      let done = job.step();
      while (!done && this.#clock.now() - began < SLICE_MS) done = job.step();
      if (done) this.#count(tenant, -job.bytes);
      else jobs.push(job);
      if (this.#clock.now() - began < SLICE_MS) continue;
      await this.#clock.yield();
      began = this.#clock.now();
    }
    this.#running = false;
  }

  /** Each tenant goes behind the others after its turn, and leaves when it has nothing. */
  *#turns(): Generator<[string, Job[]]> {
    for (;;) {
      const [first] = this.#waiting;
      if (first === undefined) return;
      const [tenant, jobs] = first;
      yield first;
      this.#waiting.delete(tenant);
      if (jobs.length > 0) this.#waiting.set(tenant, jobs);
    }
  }

  #count(tenant: string, bytes: number): void {
    this.#total += bytes;
    const held = (this.#bytes.get(tenant) ?? 0) + bytes;
    if (held === 0) this.#bytes.delete(tenant);
    else this.#bytes.set(tenant, held);
  }
}

const tooManyWaiting = (bytes: number): ApiError => ({
  code: 'queue_full',
  message: 'Too many long prompts are waiting already.',
  retryAfterMs: Math.max(1_000, Math.ceil(bytes / BYTES_PER_MS)),
});

/** Nobody reads it. */
const CALLER_GONE: ApiError = {
  code: 'origin_unavailable',
  message: 'The caller has gone.',
  retryAfterMs: 1_000,
};

/** What prompts are encoded with. */
export interface PromptServices {
  base: BaseInfo;
  tokenizer: Tokenizer;
  /** null: the base has none; chat completions are refused. */
  chatTemplate: ChatTemplate | null;
  /** Where they are encoded. */
  prompts: PromptQueue;
}

/** Whose turn it is when the prompt is encoded, and until when somebody wants it. */
export interface PromptCaller {
  tenant: string;
  signal: AbortSignal;
}

/**
 * Encodes in the caller's turn.
 * @param bytes how much there is to encode.
 * @param param the field that is to blame when there are more tokens than the model's context.
 */
export async function encodeInTurn(
  services: PromptServices,
  { tenant, signal }: PromptCaller,
  { bytes, param, steps }: { bytes: number; param: string; steps: Steps<number[] | null> },
): Promise<Result<number[], ApiError>> {
  const encoded = await services.prompts.run({ tenant, signal, bytes, steps });
  if (!encoded.ok) return encoded;
  const ids = encoded.value;
  const { context } = services.base;
  return ids === null || ids.length > context ? err(tooLong(context, param, ids?.length ?? 0)) : ok(ids);
}

/**
 * In words that clients look for, LangChain's and Anthropic's without a look at the code.
 * @param counted tokens that were encoded before it was known.
 */
export const tooLong = (context: number, param: string, counted: number): ApiError => ({
  code: 'context_length_exceeded',
  message: `This model's maximum context length is ${context} tokens. However, the prompt has more than that. The prompt is too long: please reduce its length.`,
  param,
  promptTokens: counted,
});
