import type { ChatCompletion, ChatCompletionChunk } from '../protocol/completion-answers.ts';
import type { ChatCompletionRequest } from '../protocol/completion.ts';
import {
  GraftError,
  type Opened,
  type Progress,
  type Serving,
  type FromWorker,
  type ToWorker,
} from './messages.ts';

export type Message = ChatCompletionRequest['messages'][number];

/** OpenAI's fields of a chat completion, and: */
export interface AskOptions extends Omit<Partial<ChatCompletionRequest>, 'messages' | 'model' | 'stream'> {
  /** Another name than the current one, for this answer; null = the base itself. Rows of one batch may differ. */
  model?: string | null;
  /** Aborts the answer; the call rejects with its reason. */
  signal?: AbortSignal;
}

/** An open base with the current adapter. */
export class Model {
  #serving: Serving;
  /** Number of `use` calls, and the one that is in effect. */
  #uses = 0;
  #servingUse = 0;
  /** Names whose chain the worker knows: it asks the edge about others. */
  readonly #known = new Set<string>();

  /** @internal */
  constructor(
    private readonly jobs: Jobs,
    private readonly opened: Opened,
    private readonly findToken: FindToken,
  ) {
    this.#serving = opened;
    if (opened.name !== null) this.#known.add(opened.name);
  }

  /** Id of the base. */
  get base(): string {
    return this.opened.base;
  }
  /** The runtime, for people. */
  get runtime(): string {
    return this.opened.runtime;
  }
  /** `webgpu`, or `wasm` for the processor. */
  get device(): Opened['device'] {
    return this.opened.device;
  }
  /** Maximum tokens of a conversation, including the answer. */
  get context(): number {
    return this.opened.context;
  }
  /** The current name; null = the base itself. */
  get name(): string | null {
    return this.#serving.name;
  }
  /** Its version; null = the base itself. */
  get version(): number | null {
    return this.#serving.version;
  }
  /** Whether a stored version answers, because the edge could not be asked when the name was selected. */
  get offline(): boolean {
    return this.#serving.offline;
  }

  /**
   * Switches to another adapter, or to a newer version of the same; the base stays. Running answers keep their
   * adapter.
   * @param name null = the base itself.
   * @param options.onProgress called with the downloaded bytes (stage `adapter`).
   * @throws GraftError
   */
  async use(
    name: string | null,
    options: { signal?: AbortSignal; onProgress?: (progress: Progress) => void } = {},
  ): Promise<Serving> {
    const turn = ++this.#uses;
    const serving = await withToken(name === null ? noToken : this.findToken, (token) =>
      this.jobs.run<Serving>({ kind: 'use', name, token }, options),
    );
    if (name !== null) this.#known.add(name);
    // An earlier request may take longer: the latest call counts.
    if (turn > this.#servingUse) [this.#serving, this.#servingUse] = [serving, turn];
    return serving;
  }

  /**
   * An answer as OpenAI's `chat.completion.chunk`s; text is in `choices[0].delta.content`. Ending the iteration
   * aborts the answer.
   * @throws GraftError, or the signal's reason.
   */
  async *chat(
    messages: readonly Message[],
    options: AskOptions = {},
  ): AsyncGenerator<ChatCompletionChunk, undefined> {
    const { signal, ...fields } = options;
    const left = new AbortController();
    const parts: ChatCompletionChunk[] = [];
    let failure: { error: unknown } | null = null;
    let ended = false;
    let wake = (): void => {};
    const asked = this.#ask({ ...fields, messages, stream: true }, signal, left.signal, (part) => {
      parts.push(part);
      wake();
    });
    asked
      .catch((error: unknown) => (failure = { error }))
      .finally(() => {
        ended = true;
        wake();
      });
    try {
      for (;;) {
        const part = parts.shift();
        if (part !== undefined) yield part;
        else if (failure !== null) throw (failure as { error: unknown }).error;
        else if (ended) return;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      left.abort();
    }
  }

  /** A whole answer, as OpenAI's `chat.completion`. @throws GraftError, or the signal's reason. */
  async answer(messages: readonly Message[], options: AskOptions = {}): Promise<ChatCompletion> {
    const { signal, ...fields } = options;
    return (await this.#ask({ ...fields, messages }, signal, undefined, () => {}))!;
  }

  async #ask(
    { model, ...fields }: Record<string, unknown> & { model?: string | null },
    signal: AbortSignal | undefined,
    left: AbortSignal | undefined,
    onPart: (part: ChatCompletionChunk) => void,
  ): Promise<ChatCompletion | null> {
    const name = model === undefined ? this.name : model;
    const either = [signal, left].filter((one) => one !== undefined);
    const find = name === null || this.#known.has(name) ? noToken : this.findToken;
    const answer = await withToken(find, (token) =>
      this.jobs.run<ChatCompletion | null>(
        { kind: 'ask', body: fields, name, token },
        { onPart, signal: either.length > 1 ? AbortSignal.any(either) : either[0] },
      ),
    );
    if (name !== null) this.#known.add(name);
    return answer;
  }

  /** Ends the worker and frees its memory. Stored files stay. */
  close(): void {
    this.jobs.end(new GraftError({ code: 'closed', message: 'The model was closed.' }));
  }
}

/** @returns a download token of the edge; null = none. May reject with an error of the application's own code. */
export type FindToken = () => Promise<string | null>;

/** The worker's error when a token was needed after all. */
const WANTED = ['invalid_api_key', 'edge_unreachable'];

/**
 * If the edge cannot be reached, a missing token does not matter, and stored data answers.
 * @throws why there is no token, if one was needed.
 */
export async function withToken<T>(find: FindToken, run: (token: string | null) => Promise<T>): Promise<T> {
  const found = await find().then(
    (token) => ({ token, failure: null }),
    (error: unknown) => ({ token: null, failure: { error } }),
  );
  try {
    return await run(found.token);
  } catch (error) {
    const wanted = error instanceof GraftError && WANTED.includes(error.code);
    throw wanted && found.failure !== null ? found.failure.error : error;
  }
}

export const noToken: FindToken = () => Promise.resolve(null);

interface Job {
  onProgress?: ((progress: Progress) => void) | undefined;
  onPart?: (part: Extract<FromWorker, { kind: 'part' }>['part']) => void;
  resolve: (value: Extract<FromWorker, { kind: 'done' }>['value']) => void;
  reject: (error: unknown) => void;
}

type Start = ToWorker extends infer M
  ? M extends { kind: 'abort' }
    ? never
    : M extends { job: number }
      ? Omit<M, 'job'>
      : never
  : never;

export class Jobs {
  readonly #jobs = new Map<number, Job>();
  #last = 0;
  #lost: GraftError | null = null;

  constructor(private readonly worker: Worker) {
    worker.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => this.#hear(data));
    worker.addEventListener('error', (event) => {
      const message = `The worker ended: ${event.message || 'its script cannot be loaded'}.`;
      this.end(new GraftError({ code: 'runtime_unavailable', message }));
    });
  }

  /**
   * @param signal also aborts in the worker; rejects with its reason.
   * @throws GraftError
   */
  async run<T>(
    start: Start,
    options: Pick<Job, 'onProgress' | 'onPart'> & { signal?: AbortSignal | undefined } = {},
  ): Promise<T> {
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#lost !== null) throw this.#lost;
    this.#last += 1;
    const job = this.#last;
    const abort = (): void => {
      this.worker.postMessage({ kind: 'abort', job } satisfies ToWorker);
      this.#take(job)?.reject(signal?.reason);
    };
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await new Promise<T>((resolve, reject) => {
        this.#jobs.set(job, { ...options, resolve: (value) => resolve(value as T), reject });
        this.worker.postMessage({ ...start, job } as ToWorker);
      });
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  end(reason: GraftError): void {
    this.#lost ??= reason;
    this.worker.terminate();
    for (const { reject } of this.#jobs.values()) reject(this.#lost);
    this.#jobs.clear();
  }

  #hear(message: FromWorker): void {
    const { job } = message;
    if (message.kind === 'progress') return this.#jobs.get(job)?.onProgress?.(message.progress);
    if (message.kind === 'part') return this.#jobs.get(job)?.onPart?.(message.part);
    const known = this.#take(job);
    if (message.kind === 'done') known?.resolve(message.value);
    else known?.reject(new GraftError(message.problem));
  }

  #take(job: number): Job | undefined {
    const known = this.#jobs.get(job);
    this.#jobs.delete(job);
    return known;
  }
}
